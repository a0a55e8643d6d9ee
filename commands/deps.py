"""Writes into dvc.yaml, and into those of `studies`, what code and which packages each stage runs:
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
BY_FILE = ("zoo", "finetune")  # stages that are dear to run again
_SECTIONS = "lib/params"  # by file: a new key of one is no matter of those that read another
_CODE = re.compile(r"(\.\./\.\./)?(lib|stages)/|(\.\./(\w+/)?)?\w+\.py$")
_WIDTH = 120


def main() -> None:
    """Rewrites the lists of `deps`, where what is no code stays in front, in its order, and those of packages."""
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
        if line.lstrip().startswith("deps:"):
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
def code(script: Path, folder: Path = ROOT) -> list[str]:
    """What a stage runs, relative to the folder of its dvc.yaml: its own files, then those of lib; in place of the
    files of a room, the room as a whole where the stage runs half of them at least and is not dear to run again, as
    those of studies are. (There DVC would see what Python leaves in a room, too.)
    """
    files = imported_files(script)
    own = sorted(file for file in files if not file.startswith("lib/"))
    rest = {Path(ROOT, file) for file in files if file.startswith("lib/")}
    if script.stem in BY_FILE or folder != ROOT:
        found = list(rest)
    else:
        found = [dep for room in (ROOT / "lib").iterdir() for dep in _folded(room, rest)]
    named = own + sorted(str(dep.relative_to(ROOT)) for dep in found)
    return [os.path.relpath(ROOT / file, folder) for file in named]


def _folded(room: Path, files: set[Path]) -> list[Path]:
    """The room, its sub-rooms, or those of `files` that lie there."""
    inside = {file for file in files if file.is_relative_to(room)}
    everything = [file for file in room.rglob("*.py") if file.name != "__init__.py"]
    if not inside or room.is_file():
        return list(inside)
    if room != ROOT / _SECTIONS and 2 * sum(file.suffix == ".py" for file in inside) >= len(everything):
        return [room]
    return [dep for one in room.iterdir() for dep in _folded(one, inside)]


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
