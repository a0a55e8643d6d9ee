"""What is told of stages while they run."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from commands.fleet.stages import Stage

if TYPE_CHECKING:
    from rich.table import Table


class Board:
    """A line when a stage ends and, on a terminal, a table of those that run."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.failed = list[str]()
        self.without = set[str]()  # those that have made nothing: the failed ones, and what follows them
        self._left = {stage.name: stage for stage in stages}
        self._running = dict[str, tuple[str, float]]()  # worker, beginning
        self._count = len(stages)

    def started(self, told: Mapping[str, Any]) -> None:
        """A worker has begun with a stage, perhaps once more, or has left since it cannot take part."""
        if told["stage"] is None:
            say(f"worker {told['by']} has left: {told['why']}")
            return
        self._running[told["stage"]] = told["by"], time.monotonic()

    def ended(self, name: str, cause: tuple[str, str] | None) -> None:
        """It has ended, or cannot begin; cause: the stage that has failed, this or one before it, and what it said."""
        self._left.pop(name)
        worker, began = self._running.pop(name, ("", None))
        took = "" if began is None else f" {time.monotonic() - began:.0f} s, {worker}"
        place = f"{self._count - len(self._left)} of {self._count}"
        if cause is None:
            say(f"{place} {name}:{took}")
            return
        failed, said = cause
        self.without.add(name)
        if failed != name:
            say(f"{place} {name}: not run, it follows {failed} that failed")
        else:
            self.failed.append(name)
            say(f"{place} {name}: failed: {said}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draws the table, where there is a terminal, until the end."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.live import Live

        with Live(get_renderable=self._table, refresh_per_second=2, transient=True):
            yield

    def _table(self) -> "Table":
        from rich.table import Table

        now = time.monotonic()
        table = Table("stage", "worker", "s", title=f"{len(self._left)} of {self._count} stages left")
        for name, (worker, began) in sorted(self._running.items()):
            table.add_row(name, worker, f"{now - began:.0f}")
        return table


def say(line: str) -> None:
    """A line on standard output, above the table."""
    Console(soft_wrap=True, markup=False, highlight=False).print(line)
