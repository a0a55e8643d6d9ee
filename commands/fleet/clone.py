"""Runs a stage in a clone that shares its folder with nobody: python -m commands.fleet.clone STAGE JOB MADE.

From the Job in file JOB to the Made in file MADE (`apart`), pickled by and for the worker that starts this.
"""

import pickle
import sys
from pathlib import Path

from commands import in_one_line

# isort: split
from dvc.logger import setup
from dvc.stage.exceptions import StageCmdFailedError

from commands.fleet import apart
from lib.base.errors import BrickyardError


def main(stage: str, job: Path, made: Path) -> int:
    """The exit code; what goes wrong is the last line on standard error."""
    try:
        made.write_bytes(pickle.dumps(apart.run(stage, pickle.loads(job.read_bytes()))))
    except BrickyardError as error:
        if not isinstance(error.__cause__, StageCmdFailedError):
            raise
        return 1  # the stage has said why
    return 0


if __name__ == "__main__":
    setup()
    with in_one_line("fleet"):
        stage, job, made = sys.argv[1:]
        sys.exit(main(stage, Path(job), Path(made)))
