"""Looks at names in params.yaml before DVC pastes them into paths: python -m commands.names, as ./run dvc repro does.

DVC removes the outputs of a stage before it runs: a network called `../../data/images` would cost the images.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from commands import in_one_line
from lib.base.errors import BrickyardError


def main(path: Path) -> None:
    """Raises BrickyardError naming the first name that holds anything but letters, digits, _ and -."""
    try:
        document = YAML(typ="safe", pure=True).load(path)
    except (FileNotFoundError, YAMLError, ValueError, RecursionError):
        return  # DVC and the stages say it
    for key, name in _names(document):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise BrickyardError(f"{path}: {key}: {str(name)!r}: a name has letters, digits, _ and - only")


def _names(document: Any) -> Iterator[tuple[str, Any]]:
    """Every value from which dvc.yaml makes a path, and where it stands; what has another form is not looked at."""
    for key in ("zoo.models", "components.tasks", "contributions.models", "finetune.ranks"):
        section, _, field = key.partition(".")
        inside = document.get(section) if isinstance(document, dict) else None
        found = inside.get(field) if isinstance(inside, dict) else None
        if isinstance(found, dict | list):
            yield from ((key, name) for name in found)
        if key == "components.tasks" and isinstance(found, dict):
            tasks = ((name, task) for name, task in found.items() if isinstance(task, dict) and "model" in task)
            yield from ((f"{key}.{name}.model", task["model"]) for name, task in tasks)


if __name__ == "__main__":
    with in_one_line("names"):
        main(Path("params.yaml"))
