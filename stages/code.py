"""Stage `code`: a digest of the code that each stage runs, on which it depends as on a parameter."""

from pathlib import Path

from lib.base.artifacts import write_text
from lib.base.code import ROOT, digest
from stages import run


def main(out: Path) -> None:
    """Writes YAML to `out`: for each stage, of all files here that it imports, comments and docstrings left out."""
    scripts = sorted((ROOT / "stages").glob("[a-z]*.py"))
    found = {script.stem: digest([script]) for script in scripts if script != Path(__file__)}
    write_text(out, "".join(f'{name}: "{of[:16]}"\n' for name, of in found.items()))


if __name__ == "__main__":
    run(main)
