"""The packages that change results, and versions.yaml, which says which versions made them, for every stage."""

import re
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .code import installed
from .errors import BrickyardError

FILE = Path("versions.yaml")
NEEDS = {  # by package: what it computes with; those of them that change bits
    "highspy": (),
    "jinja2": (),
    "matplotlib": ("numpy",),
    "numpy": (),
    "pandas": ("numpy",),
    "pillow": (),
    "pyomo": ("highspy",),
    "safetensors": (),
    "scikit-learn": ("numpy", "scipy"),
    "scipy": ("numpy",),
    "timm": ("torch", "torchvision", "pillow"),
    "torch": (),
    "torchvision": ("torch", "pillow"),
}
_IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn"}


def of_imports(modules: Iterable[str]) -> list[str]:
    """The packages that change results when these modules are imported, in alphabetical order."""
    names = {module.split(".")[0] for module in modules}
    used = {package for package in NEEDS if _IMPORTED_AS.get(package, package) in names}
    return sorted(used.union(*(NEEDS[package] for package in used)))


def of_lock(lock: str) -> dict[str, list[str]]:
    """The versions that a requirements file names: several, where they depend on the version of Python."""
    return {
        package: re.findall(rf"^{re.escape(package)}==([^\s;\\]+)", lock, flags=re.MULTILINE)
        for package in sorted(NEEDS)
    }


def check(path: Path = FILE) -> None:
    """Raises BrickyardError where a version is installed that `path` does not name: results would be others, and no
    stage would run again for it.
    """
    try:
        stated = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise BrickyardError(f"{path} not found: run from the root of the repository") from None
    except YAMLError as error:
        raise BrickyardError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(stated, dict) or sorted(stated) != sorted(NEEDS):
        raise BrickyardError(f"{path}: should name {', '.join(NEEDS)}: ./run python -m commands.versions")
    for package, version in installed(NEEDS).items():
        allowed = [str(one) for one in (stated[package] if isinstance(stated[package], list) else [stated[package]])]
        if version not in allowed:
            raise BrickyardError(
                f"{path}: {package} = {', '.join(allowed)}, but {version or 'none'} is installed: run by ./run, which "
                f"installs that, or write {version} there, and what depends on it is made anew"
            )
