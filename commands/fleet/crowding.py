"""More threads than CPUs: OpenMP's spin while they wait, and so take the time of those for which they wait."""

import os
from contextlib import suppress
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

POLICY = "OMP_WAIT_POLICY"


def policy(stages: int, cpus: int | None = None, params: Path = Path("params.yaml")) -> dict[str, str]:
    """What the environment of a worker must have before torch is loaded: where so many stages at a time have more
    threads than there are CPUs, by default this process's, theirs sleep while they wait. No result depends on it.
    """
    there = len(os.sched_getaffinity(0)) if cpus is None and hasattr(os, "sched_getaffinity") else cpus
    crowded = stages * _threads(params) > (there or os.cpu_count() or 1)
    return {POLICY: "PASSIVE"} if crowded and POLICY not in os.environ else {}


def _threads(params: Path) -> int:
    """run.threads; 1 where that is not right, which others say."""
    with suppress(OSError, YAMLError, ValueError, RecursionError, KeyError, TypeError):
        return int(YAML(typ="safe", pure=True).load(params)["run"]["threads"])
    return 1
