"""Shapes and dtypes that signatures of lib name, checked in the tests: whatever a test calls, or calls in turn.

As jaxtyping's own import hook does it, but for functions alone that name some, and for each the first calls of a test:
in the loops of a search checks would take longer than all else.
"""

import ast
import functools
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import jaxtyped

ROOT = Path(__file__).resolve().parents[1]
CALLS = 20  # of a function that are checked in each test
called = Counter[Any]()  # in this test


def install() -> None:
    """From here on, modules of lib that name shapes are imported with their checks."""
    files = sorted(file for file in (ROOT / "lib").rglob("*.py") if "from jaxtyping import" in file.read_text())
    sys.meta_path.insert(0, _Finder({".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}))


def checked(made: Any) -> Any:
    """A function, or a dataclass's `__init__`, with those of its hints checked that name a shape; the others are
    pyright's.
    """
    if isinstance(made, type):
        if "__init__" in vars(made):
            made.__init__ = checked(made.__init__)
        return made
    hints = {name: hint for name, hint in made.__annotations__.items() if "jaxtyping" in repr(hint)}
    if not hints:
        return made
    made.__annotations__ = hints
    strict = jaxtyped(made, typechecker=beartype)

    @functools.wraps(made)
    def sampled(*arguments: Any, **named: Any) -> Any:
        called[made] += 1
        return (strict if called[made] <= CALLS else made)(*arguments, **named)

    return sampled


class _Finder(MetaPathFinder):
    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module of ours is, to be loaded with checks."""
        found = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if found is not None and found.origin is not None:
            found.loader = _Loader(fullname, found.origin)
        return found


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Neither from bytecode that is there nor written to it: that is everyone's."""
        tree = _Decorating().visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        """With what decorates its functions."""
        vars(module)["_checked"] = checked
        super().exec_module(module)


class _Decorating(ast.NodeTransformer):
    """Functions are checked inside all of their decorators, dataclasses outside."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.decorator_list.append(ast.Name("_checked", ast.Load()))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            node.decorator_list.insert(0, ast.Name("_checked", ast.Load()))
        return node
