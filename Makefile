# Renews requirements.lock from pyproject.toml: versions and hashes, no addresses.
# uv reads no dependency group of a project marked `managed = false`, hence the copy.
.PHONY: lock
lock:
	mkdir -p .scratch/lock
	grep -v '^managed' pyproject.toml >.scratch/lock/pyproject.toml
	cp README.md LICENSE .scratch/lock/
	cd .scratch/lock && uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
	    --custom-compile-command "make lock" -o ../../requirements.lock
