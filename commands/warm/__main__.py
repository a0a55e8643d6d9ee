"""Runs a program whose `python -m stages.…` begin warm: python -m commands.warm PROGRAM…, as ./run dvc repro does.

Before that, names in params.yaml are looked at (`commands.names`). Nothing is imported until the first stage runs.
"""

import os
import sys
from pathlib import Path

from commands import dvc, in_one_line, names, warm

FIRST = 6  # of warm.STAGES: what nearly every stage imports


def main(command: list[str]) -> None:
    """Does not come back. Raises BrickyardError for names that hold anything but letters, digits, _ and -."""
    names.main(Path("params.yaml"))
    if warm.possible() and not warm.found():
        os.environ["PATH"] = f"{warm.begin(['stages'], warm.STAGES, FIRST)}{os.pathsep}{os.environ['PATH']}"
    if command[0] == "dvc":
        sys.exit(dvc.main(command[1:]))
    os.execvp(command[0], command)


if __name__ == "__main__":
    with in_one_line("names"):
        main(sys.argv[1:])
