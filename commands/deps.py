"""Writes into dvc.yaml which files of the code and which packages each stage runs: python -m commands.deps."""

from pathlib import Path

from lib.base.artifacts import write_text
from lib.base.code import ROOT, imported_files, imported_modules
from lib.base.versions import FILE, of_imports
from stages import in_one_line

DVC = ROOT / "dvc.yaml"
_CODE = ("- lib/", "- stages/")


def main() -> None:
    """Rewrites the lists of `deps`, where what is no code stays in front, in its order, and those of packages."""
    text = DVC.read_text()
    made = rewritten(text)
    if made != text:
        write_text(DVC, made)


def rewritten(text: str) -> str:
    """dvc.yaml with the deps and packages of every stage as the code has them."""
    lines: list[str] = []
    stage, indent = "", None
    for line in text.splitlines():
        if line.startswith("  ") and line[2] not in " -#" and line.endswith(":"):
            stage = line.strip(" :")
        if indent is not None and not line.lstrip().startswith("- "):
            lines += [f"{indent}- {file}" for file in _files(stage)]
            indent = None
        if line.lstrip().startswith(f"- {FILE}: "):
            packages = of_imports(imported_modules(Path(ROOT, "stages", f"{stage}.py")))
            line = f"{line[: line.index('-')]}- {FILE}: [{', '.join(packages)}]"
        if indent is None or not line.lstrip().startswith(_CODE):
            lines.append(line)
        if line.strip() == "deps:":
            indent = " " * (line.index("d") + 2)
    return "\n".join(lines) + "\n"


def _files(stage: str) -> list[str]:
    """The stage's own files, then those of lib."""
    files = imported_files(Path(ROOT, "stages", f"{stage}.py"))
    return sorted(files, key=lambda file: (not file.startswith("stages/"), file))


if __name__ == "__main__":
    with in_one_line("deps"):
        main()
