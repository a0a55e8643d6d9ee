"""What a person runs beside `dvc repro`: python -m commands.NAME. One line on every mistake, as stages."""

from stages import SCRATCH, in_one_line, prepare  # before all other imports: Ctrl-C while these run is one line, too

# isort: split
import subprocess
import sys

from lib.base.errors import BrickyardError

__all__ = ["SCRATCH", "in_one_line", "prepare", "said"]


def said(*arguments: str) -> str:
    """What DVC prints. Raises BrickyardError with its last line where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrickyardError(f"dvc {' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout.strip()
