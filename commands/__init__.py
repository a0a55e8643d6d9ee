"""What a person runs beside `dvc repro`: python -m commands.NAME. One line on every mistake, as stages."""

from stages import SCRATCH, in_one_line, prepare  # before all other imports: Ctrl-C while these run is one line, too

__all__ = ["SCRATCH", "in_one_line", "prepare"]
