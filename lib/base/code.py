"""What code a result depends on: the files of the repository that a module runs, found by following its imports, and
the versions of installed packages.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository


def imported_files(script: Path) -> set[str]:
    """The files of `lib`, `stages` and `studies` that `script` imports, directly or not, itself included, relative to
    the root.

    Imports inside functions count; those under `if TYPE_CHECKING` do not, nor do `__init__.py` files that hold nothing
    but a docstring. A module that imports by `import_module(f".folder.{name}", ...)` runs all modules of that folder
    beside it; importlib's other imports do not count. Files of other kinds (templates) belong to the module that names
    their folder beside it.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported(file, file.stat().st_mtime_ns)
    others = {data for module in found for data in module.parent.glob("*/*") if _belongs(data, module)}
    return {str(file.relative_to(ROOT)) for file in found | others if not _says_nothing(file)}


def imported_modules(script: Path) -> set[str]:
    """The names of all modules that `script` and the files of the repository that it runs import."""
    files = (ROOT / name for name in imported_files(script) if name.endswith(".py"))
    return {name for file in files for name in imports(file)}


def imports(file: Path) -> set[str]:
    """The full names of the modules, and of what may be one, that a file of the repository imports itself."""
    return set(_imports(ast.parse(file.read_text()), _package(file)))


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
    chosen = [file.parent / folder for folder in re.findall(r'import_module\(f"\.(\w+)\.\{', file.read_text())]
    members = [member for folder in chosen for member in sorted(folder.glob("*.py"))]
    return [*members, *(target for name in sorted(imports(file)) for target in _files(name))]


def _belongs(data: Path, module: Path) -> bool:
    named = f'"{data.parent.name}"' in module.read_text()
    return named and data.is_file() and data.suffix not in (".py", ".pyc")


def _says_nothing(file: Path) -> bool:
    """Whether it is an `__init__.py` without a statement, or empty."""
    if file.name != "__init__.py":
        return not file.stat().st_size
    return all(
        isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in ast.parse(file.read_text()).body
    )


def _package(file: Path) -> tuple[str, ...]:
    """What imports of a file are relative to."""
    return file.relative_to(ROOT).parts[:-1] if file.is_relative_to(ROOT) else ()


def _imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The full names of modules, and of what may be one, that are imported in a file of `package`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        yield from _imports(node, package)


def _files(name: str) -> list[Path]:
    if name.split(".")[0] not in ("lib", "stages", "studies"):
        return []
    path = ROOT / name.replace(".", "/")
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
