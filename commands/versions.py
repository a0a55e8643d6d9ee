"""Writes versions.yaml, the versions that change results, from requirements.lock: python -m commands.versions."""

import json

from commands import in_one_line
from lib.base.artifacts import write_text
from lib.base.code import ROOT
from lib.base.versions import FILE, of_lock

HEAD = "# Versions that change results, several where Python's decides. Written by `make lock`; see docs/faults.md.\n\n"


def main() -> None:
    """Rewrites the file."""
    write_text(ROOT / FILE, text((ROOT / "requirements.lock").read_text()))


def text(lock: str) -> str:
    """The file's content for a requirements.lock."""
    found = of_lock(lock).items()
    lines = [f"{name}: {json.dumps(versions[0] if len(versions) == 1 else versions)}\n" for name, versions in found]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    with in_one_line("versions"):
        main()
