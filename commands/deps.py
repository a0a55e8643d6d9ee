"""Writes into dvc.yaml which packages each stage imports, and into those of `studies` what code it runs, too:
python -m commands.deps.
"""

import os
import re
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from commands import in_one_line
from lib.base.artifacts import write_text
from lib.base.code import ROOT, imported_files, imports
from lib.base.versions import FILE, of_imports

PIPELINES = (ROOT / "dvc.yaml", *sorted(ROOT.glob("studies/*/dvc.yaml")))
_CODE = re.compile(r"(\.\./\.\./)?(lib|stages)/|(\.\./(\w+/)?)?\w+\.py$")
_WIDTH = 120


def main() -> None:
    """Rewrites the lists of packages and, in studies, those of `deps`: what is no code stays in front, in its order."""
    for file in PIPELINES:
        text = file.read_text()
        made = rewritten(text, file.parent)
        if made != text:
            write_text(file, made)


def rewritten(text: str, folder: Path = ROOT) -> str:
    """The dvc.yaml of a folder with the deps and packages of every stage as the code has them."""
    lines: list[str] = []
    script, indent, listed = ROOT, "", None
    for line in text.splitlines():
        if named := re.search(r"\bpython -m ([\w.]+)", line):
            script = ROOT / f"{named[1].replace('.', '/')}.py"
        if line.lstrip().startswith("deps:") and folder != ROOT:  # there, stage `code` knows
            indent, listed = line[: line.index("deps:")], ""
            line = line.strip().removeprefix("deps:")
        if listed is not None:
            listed += f" {line.strip()}"
            if line.endswith("]"):
                data = [dep for dep in YAML(typ="safe").load(listed) if not _CODE.match(dep)]
                lines += _wrapped([*data, *code(script, folder)], indent)
                listed = None
            continue
        if line.lstrip().startswith(f"- {FILE}: "):
            line = f"{line[: line.index('-')]}- {FILE}: [{', '.join(_packages(script))}]"
        lines.append(line)
    return "\n".join(lines) + "\n"


@cache
def _packages(script: Path) -> list[str]:
    return of_imports({name for file in imported_files(script) if file.endswith(".py") for name in _named(file)})


@cache
def _named(file: str) -> set[str]:
    return imports(ROOT / file)


@cache
def code(script: Path, folder: Path) -> list[str]:
    """The files that a stage of a study runs, relative to the folder of its dvc.yaml: its own, then those of lib. Not
    folders: DVC would see what Python leaves there, too.
    """
    files = sorted(imported_files(script), key=lambda file: (file.startswith("lib/"), file))
    return [os.path.relpath(ROOT / file, folder) for file in files]


def _wrapped(deps: list[str], indent: str) -> list[str]:
    """A list in lines that are not too long."""
    lines, first = [f"{indent}deps:"], f"{indent}  ["
    line = first
    for number, dep in enumerate(deps):
        item = (f'"{dep}"' if "{" in dep else dep) + (", " if number + 1 < len(deps) else "]")
        if len(line) + len(item.rstrip()) > _WIDTH:
            lines.append(line.rstrip())
            line = f"{indent}   "
        line += item
    return [*lines, line]


if __name__ == "__main__":
    with in_one_line("deps"):
        main()
