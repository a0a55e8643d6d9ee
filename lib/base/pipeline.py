"""The stages of dvc.yaml in its order, as DVC calls them, without DVC, which takes a second to import."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def names(folder: Path = Path()) -> list[str]:
    """Those of the dvc.yaml in `folder`, one for each item of its params.yaml where there are several: dataset,
    zoo@resnet, …; none where either cannot be read.
    """
    try:
        stages, params = (YAML(typ="safe", pure=True).load(folder / name) for name in ("dvc.yaml", "params.yaml"))
        return [name for stage, told in stages["stages"].items() for name in _items(stage, told, params)]
    except (OSError, YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _items(stage: str, told: Mapping[str, Any], params: Any) -> list[str]:
    each = told.get("foreach", told.get("matrix"))
    if each is None:
        return [stage]
    if isinstance(each, str):
        for part in re.findall(r"[\w-]+", each):
            params = params[part]
        each = params
    return [f"{stage}@{item}" for item in each]
