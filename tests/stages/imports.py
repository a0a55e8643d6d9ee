"""Which files of the repository a stage runs: its imports, followed through lib."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
            waiting += [target for name in _imports(ast.parse(file.read_text())) for target in _files(name)]
    others = {data for module in found for data in module.parent.glob("*/*") if _belongs(data, module)}
    return {str(file.relative_to(ROOT)) for file in found | others if file.stat().st_size}


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
