# Renews requirements.lock from pyproject.toml, versions and hashes, no addresses, and versions.yaml from it.
# uv reads no dependency group of a project marked `managed = false`, hence the copy.
.PHONY: lock
lock:
	mkdir -p .scratch/lock
	grep -v '^managed' pyproject.toml >.scratch/lock/pyproject.toml
	cp README.md LICENSE .scratch/lock/
	cd .scratch/lock && uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
	    --custom-compile-command "make lock" -o ../../requirements.lock
	./run python -m commands.versions
	./run python -m commands.deps

# Makes docs/partition.png from artifacts/report: the partition and the first reassembled network. Needs Chromium.
CHROMIUM ?= chromium
.PHONY: picture
picture:
	mkdir -p .scratch/picture
	sed 's#</style>#header, footer, main > :not(\#partition, \#partition ~ *), \#networks ~ figure ~ *, \
	    .network ~ * { display: none } h2 { margin-top: 1rem }</style>#' artifacts/report/report.html >.scratch/picture/page.html
	$(CHROMIUM) --headless --no-sandbox --hide-scrollbars --window-size=1080,990 \
	    --screenshot=docs/partition.png .scratch/picture/page.html

# Tries on a CUDA device what has been tried on CPUs alone, and measures there.
.PHONY: gpu
gpu:
	BRICKYARD_DEVICE=cuda ./run pytest -m gpu -n 0
	BRICKYARD_DEVICE=cuda ./run python -m benchmarks.scale --quick
