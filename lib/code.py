"""What code a result depends on: the files of the repository that a module runs, found by following its imports, and
the versions of installed packages.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository


def imported_files(script: Path) -> set[str]:
    """The files of `lib` and `stages` that `script` imports, directly or not, itself included, relative to the root.

    Imports inside functions count, those under `if TYPE_CHECKING` do not, nor do empty `__init__.py` files. Files of
    other kinds (templates) belong to the module that names their folder beside it.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported(file, file.stat().st_mtime_ns)
    others = {data for module in found for data in module.parent.glob("*/*") if _belongs(data, module)}
    return {str(file.relative_to(ROOT)) for file in found | others if file.stat().st_size}


def imported_modules(script: Path) -> set[str]:
    """The names of all modules that `script` and the files of the repository that it runs import."""
    files = (ROOT / name for name in imported_files(script) if name.endswith(".py"))
    return {name for file in files for name in _imports(ast.parse(file.read_text()))}


def digest(scripts: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of all files that `scripts` run."""
    found = hashlib.sha256()
    for name in sorted(set().union(*(imported_files(script) for script in scripts))):
        found.update(f"{name} {hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of some packages, without what a build adds after a plus; empty for those that are missing."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = ""
    return found


@cache
def _imported(file: Path, _changed: int) -> list[Path]:
    return [target for name in _imports(ast.parse(file.read_text())) for target in _files(name)]


def _belongs(data: Path, module: Path) -> bool:
    named = f'"{data.parent.name}"' in module.read_text()
    return named and data.is_file() and data.suffix not in (".py", ".pyc")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imports(node)


def _files(name: str) -> list[Path]:
    if name.split(".")[0] not in ("lib", "stages"):
        return []
    path = ROOT / name.replace(".", "/")
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
