"""A Python that has imported torch and DVC already: tests run scores of stages, each in a process of its own, and
importing them takes longer than what most stages do.
"""

import os
import subprocess
from functools import cache
from pathlib import Path

from commands import warm

OURS = (*warm.OURS, "benchmarks")
MODULES = (*warm.MODULES, "torch._dynamo")


@cache
def folder() -> Path:
    """To be the first of PATH: it holds a program `python`, which ends with this process."""
    return warm.begin(OURS, MODULES)


def run(place: Path, module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a module in a folder, and what it starts from the PATH, with a few variables more."""
    path = f"{folder()}{os.pathsep}{os.environ['PATH']}"
    there = {**os.environ, "PATH": path, **environment}
    command = [str(folder() / "python"), "-m", module, *arguments]
    return subprocess.run(command, cwd=place, env=there, capture_output=True, text=True, check=False)
