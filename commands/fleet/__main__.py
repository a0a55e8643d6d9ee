"""Runs what `dvc repro` would, stages side by side: python -m commands.fleet [TARGET …] [--local N].

Each stage is a task of Dask: `dvc repro --single-item` on a worker, once those that it follows have ended. A stage that
fails fails what follows it, and nothing else; one whose worker is lost runs again on another; what has ended stays
when this is interrupted. Afterwards `dvc repro` has nothing to do. For many machines with one shared folder: start
`./run dask scheduler`, on each machine `./run python -m commands.fleet --join tcp://ADDRESS` in the checkout, and
here `--scheduler tcp://ADDRESS`; or let a batch system start them (`--slurm FILE`, and so on).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from commands import SCRATCH, in_one_line, names
from lib.base import usage
from lib.base.errors import BrickyardError

if TYPE_CHECKING:
    from distributed import Client, Future
    from rich.table import Table

    from commands.fleet.stages import Stage


def main(client: "Client", stages: "Sequence[Stage]") -> None:
    """Runs them all. Raises BrickyardError where some have failed, or workers have another checkout."""
    from distributed import as_completed

    from commands.fleet import task
    from commands.fleet.stages import weights

    expected, run = task.checkout(), uuid4().hex[:8]
    checkouts: Any = client.run(task.checkout)
    for worker, found in checkouts.items():
        if found != expected:
            raise BrickyardError(f"worker {worker} has other params or code than this checkout: bring it to the same")
    urgent = weights(stages, usage.seconds(SCRATCH / "usage"))
    gpus = any(worker["resources"].get("GPU") for worker in client.scheduler_info(-1)["workers"].values())
    board = Board(stages)
    client.subscribe_topic(task.TOPIC, lambda event: board.started(event[1]))
    futures: dict[str, Future] = {}
    for stage in stages:
        futures[stage.name] = client.submit(
            task.run,
            stage.name,
            expected,
            run,
            *(futures[name] for name in stage.after),
            key=f"{stage.name}-{run}",
            pure=False,
            resources={"GPU": 1} if gpus and stage.gpu else None,
            priority=round(1000 * urgent[stage.name]),
        )
    by_key = {future.key: name for name, future in futures.items()}
    try:
        with board.shown():
            for future in as_completed(futures.values()):
                name, error = by_key[future.key], future.exception()
                board.ended(name, error)
    except KeyboardInterrupt:
        client.run(task.stop, run)  # what has not begun is wanted by nobody any more
        raise
    finally:
        client.unsubscribe_topic(task.TOPIC)
    if failed := board.failed:
        raise BrickyardError(f"{len(failed)} of {len(stages)} stages failed: {', '.join(failed)}")


class Board:
    """What is told of stages while they run: a line when one ends and, on a terminal, a table of those that run."""

    def __init__(self, stages: "Sequence[Stage]") -> None:
        self.failed = list[str]()
        self._left = {stage.name: stage for stage in stages}
        self._running = dict[str, tuple[str, float]]()  # worker, beginning
        self._count = len(stages)

    def started(self, told: Mapping[str, Any]) -> None:
        """A worker has begun with a stage, perhaps once more."""
        self._running[told["stage"]] = told["by"], time.monotonic()

    def ended(self, name: str, error: BaseException | None) -> None:
        """It has ended, or cannot begin since one that it follows has failed."""
        from rich.console import Console

        self._left.pop(name)
        worker, began = self._running.pop(name, ("", None))
        took = "" if began is None else f" {time.monotonic() - began:.0f} s, {worker}"
        place = f"{self._count - len(self._left)} of {self._count}"
        if error is None:
            line = f"{place} {name}:{took}"
        elif began is None and error.args[:1] != (name,):
            line = f"{place} {name}: not run, it follows {error.args[0] if error.args else 'one'} that failed"
        else:
            self.failed.append(name)
            line = f"{place} {name}: failed: {error.args[-1] if error.args else error}"
        Console(soft_wrap=True, markup=False, highlight=False).print(line)

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


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m commands.fleet", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as of dvc repro; all by default")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", type=int, metavar="N", help="workers on this machine; 2 by default")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, such as tcp://10.0.0.1:8786")
    for kind in ("slurm", "pbs", "sge"):
        where.add_argument(f"--{kind}", type=Path, metavar="FILE", help="YAML: jobs, and options of dask-jobqueue")
    where.add_argument("--join", metavar="ADDRESS", help="be a worker of this scheduler, here, until it ends")
    return parser.parse_args()


def _cluster(given: argparse.Namespace) -> Any:
    from commands.fleet import clusters

    if given.scheduler:
        return clusters.remote(given.scheduler)
    for kind in ("slurm", "pbs", "sge"):
        if file := getattr(given, kind):
            return clusters.queued(kind, file)
    count = 2 if given.local is None else given.local
    if count < 1:
        raise BrickyardError(f"--local {count}: should be 1 or more")
    return clusters.local(count)


if __name__ == "__main__":
    given = _given()
    with in_one_line("fleet"):
        if given.join:
            from commands.fleet import clusters

            clusters.join(given.join)
        # silent: read when distributed is imported, by workers on this machine, too
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "60")
        from commands.fleet.stages import to_run

        names.main(Path("params.yaml"))
        if not (found := to_run(given.targets)):
            print("nothing to do")
        else:
            with _cluster(given) as client:
                main(client, found)
