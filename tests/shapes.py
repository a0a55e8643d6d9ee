"""Shapes and dtypes that signatures of lib name, checked in the tests: whatever a test calls, or calls in turn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from beartype import beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]


def install() -> None:
    """From here on, modules of lib that name shapes are imported with their checks."""
    files = sorted(file for file in (ROOT / "lib").rglob("*.py") if "from jaxtyping import" in file.read_text())
    install_import_hook(
        [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files], "tests.shapes.checked"
    )


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with those of its hints checked that name a shape; the others are pyright's."""
    hints = {name: hint for name, hint in function.__annotations__.items() if "jaxtyping" in repr(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)
