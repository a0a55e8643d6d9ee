"""What code a result depends on: the files of the repository that a module runs, found by following its imports, and
the versions of installed packages.
"""

import ast
import hashlib
import io
import re
import tokenize
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
    """SHA-256 over the names and contents of all files that `scripts` run, but for comments and docstrings."""
    found = hashlib.sha256()
    for name in sorted(set().union(*(imported_files(script) for script in scripts))):
        found.update(f"{name} {_content(ROOT / name, (ROOT / name).stat().st_mtime_ns)}\n".encode())
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
def _content(file: Path, _changed: int) -> str:
    """SHA-256 of what counts in a file."""
    content = file.read_bytes()
    return hashlib.sha256(plain(content.decode()).encode() if file.suffix == ".py" else content).hexdigest()


def plain(source: str) -> str:
    """A Python module without comments, docstrings, lines that are empty then, and spaces at the ends of lines, none of
    which changes what it does. All that lies within other strings stays. The same whatever version of Python does it.
    """
    tree, lines = ast.parse(source), source.split("\n")
    said = set(_docstrings(tree))
    ends = set[int]()  # numbers, from 1, of lines whose end lies in a string that stays
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in said:
            ends |= set(range(node.lineno, node.end_lineno or 0))
    gone = [
        (*_place(lines, one.lineno, one.col_offset), *_place(lines, one.end_lineno, one.end_col_offset)) for one in said
    ]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            gone.append((*token.start, *token.end))
    for first, begin, last, end in sorted(gone, reverse=True):
        kept = lines[first - 1][:begin] + lines[last - 1][end:]
        lines[first - 1 : last] = [kept, *[""] * (last - first)]
    left = ((number, line if number in ends else line.rstrip()) for number, line in enumerate(lines, 1))
    return "\n".join(line for number, line in left if line or {number - 1, number} & ends)


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body[:1]:
                case [ast.Expr(ast.Constant(str()) as said)]:
                    yield said


def _place(lines: list[str], number: int | None, offset: int | None) -> tuple[int, int]:
    """A line, from 1, and a column in characters, where `ast` counts bytes of UTF-8."""
    assert number is not None
    return number, len(lines[number - 1].encode()[:offset].decode())


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
