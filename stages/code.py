"""Stage `code`: a digest of the code that each stage runs, on which it depends as on a parameter."""

from pathlib import Path

from lib.base.artifacts import write_text
from lib.base.code import ROOT, digest
from stages import run


def main(out: Path) -> None:
    """Writes YAML to `out`: for each stage, of all files here that it imports, comments and docstrings left out."""
    write_text(out, "".join(f'{name}: "{of}"\n' for name, of in digests().items()))


def digests() -> dict[str, str]:
    """By stage, that of the code which it runs."""
    scripts = sorted((ROOT / "stages").glob("[a-z]*.py"))
    return {script.stem: digest([script])[:16] for script in scripts if script != Path(__file__)}


if __name__ == "__main__":
    run(main)
