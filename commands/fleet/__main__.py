"""Runs what `dvc repro` would, stages side by side: python -m commands.fleet [TARGET …] [--local N].

Each stage is a task of Dask: `dvc repro --single-item` on a worker, once those that it follows have ended. A stage
that fails fails what follows it, and nothing else, as with `dvc repro --keep-going`; one whose worker is lost runs
again on another; what has ended stays when this is interrupted. Afterwards `dvc repro` has nothing to do. For many
machines start a scheduler with `--serve tcp://HOST:PORT`, a worker on each with `--join tcp://HOST:PORT`, all of them
in the checkout, and here `--scheduler tcp://HOST:PORT`; or let a batch system start workers (`--slurm FILE`, and so
on). Machines share one folder, or each has a clone: these exchange what they make through the default remote of DVC.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from commands import in_one_line, names, warm
from commands.fleet import crowding
from lib.base.errors import BrickyardError

if TYPE_CHECKING:
    from distributed import Client

    from commands.fleet.apart import Job
    from commands.fleet.foretold import Foretold
    from commands.fleet.stages import Stage


def main(client: "Client", stages: "Sequence[Stage]", foretold: "Callable[[], Foretold]") -> None:
    """Runs them all. Raises BrickyardError where some have failed, or workers have another checkout.

    foretold: see `Course.run`.
    """
    from commands.fleet import apart, task
    from commands.fleet.board import Board
    from commands.fleet.course import Course

    fleet, board = uuid4().hex[:8], Board(stages)
    with _jobs(client, stages, fleet) as jobs:
        client.subscribe_topic(task.TOPIC, lambda event: board.started(event[1]))
        try:
            with board.shown():
                Course(client, fleet, stages, jobs, board).run(foretold)
        except KeyboardInterrupt:
            client.run(task.stop, fleet)
            raise
        finally:
            client.unsubscribe_topic(task.TOPIC)
        if jobs:
            apart.pull({stage.name for stage in stages} - board.without)
    if failed := board.failed:
        raise BrickyardError(f"{len(failed)} of {len(stages)} stages failed: {', '.join(failed)}")


@contextmanager
def _jobs(client: "Client", stages: "Sequence[Stage]", fleet: str) -> "Iterator[Mapping[str, Job]]":
    """What workers must know of each stage; nothing where they share this folder.

    Raises BrickyardError where one has another checkout, or neither this folder nor its remote.
    """
    from commands.fleet import apart, task

    own = task.checkout()
    try:
        client.run_on_scheduler(task.checkout)
    except ModuleNotFoundError:
        raise BrickyardError(
            "the scheduler knows no stages: start it in a checkout: ./run python -m commands.fleet --serve ADDRESS"
        ) from None
    signature = task.signature(fleet)
    signature.parent.mkdir(parents=True, exist_ok=True)
    signature.touch()
    try:
        looked: Any = client.run(task.look, fleet)
        for worker, (found, _) in looked.items():
            if found != own:
                name = _called(client, worker)
                raise BrickyardError(f"worker {name} has other params or code than this checkout: bring it to the same")
        if all(shares for _, shares in looked.values()):
            yield {}
            return
        erase = apart.sign(fleet)
        try:
            seen: Any = client.run(apart.reads, fleet)
            for worker, why in seen.items():
                if why:
                    raise BrickyardError(f"worker {_called(client, worker)}: {why}")
            yield apart.begin([stage.name for stage in stages])
        finally:
            with suppress(Exception):  # of a storage: a file of six bytes stays there
                erase()
    finally:
        signature.unlink(missing_ok=True)


def _called(client: "Client", address: str) -> str:
    """The name of a worker, or its address, if it has gone."""
    return client.scheduler_info(-1)["workers"].get(address, {}).get("name", address)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m commands.fleet", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as of dvc repro; all by default")
    parser.add_argument("--local", type=int, metavar="N", help="stages at a time on this machine; 2, or 1 of --join")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, such as tcp://10.0.0.1:8786")
    for kind in ("slurm", "pbs", "sge"):
        where.add_argument(f"--{kind}", type=Path, metavar="FILE", help="YAML: jobs, and options of dask-jobqueue")
    where.add_argument("--serve", metavar="ADDRESS", help="be a scheduler there, such as tcp://10.0.0.1:8786")
    where.add_argument("--join", metavar="ADDRESS", help="be a worker of this scheduler, here, until it ends")
    given = parser.parse_args()
    if given.local is not None and _elsewhere(given):
        parser.error("--local is for workers of this machine")
    return given


def _elsewhere(given: argparse.Namespace) -> bool:
    """Whether this process runs no stage, nor begins one that does."""
    return bool(given.scheduler or given.serve or given.slurm or given.pbs or given.sge)


def _cluster(given: argparse.Namespace) -> Any:
    from commands.fleet import clusters

    if given.scheduler:
        return clusters.remote(given.scheduler)
    for kind in ("slurm", "pbs", "sge"):
        if file := getattr(given, kind):
            return clusters.queued(kind, file)
    return clusters.local(2 if given.local is None else given.local)


if __name__ == "__main__":
    given = _given()
    with in_one_line("fleet"):
        if given.local is not None and given.local < 1:
            raise BrickyardError(f"--local {given.local}: should be 1 or more")
        if not _elsewhere(given):
            own = (1 if given.join else 2) if given.local is None else given.local
            if quiet := crowding.policy(own):
                os.environ.update(quiet)
                print(
                    f"{own} at a time of run.threads each are more than there are CPUs: run.threads: 1 may be quicker"
                )
        if given.serve or given.join:
            from commands.fleet import clusters

            clusters.serve(given.serve) if given.serve else clusters.join(given.join, given.local or 1)
        if warm.possible() and not warm.found() and not _elsewhere(given):
            os.environ["PATH"] = f"{warm.begin()}{os.pathsep}{os.environ['PATH']}"  # imports while DVC is asked
        # silent: read when distributed is imported, by workers on this machine, too
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "60")
        from commands.fleet import foretold
        from commands.fleet.stages import to_run

        names.main(Path("params.yaml"))
        if not (found := to_run(given.targets)):
            print("nothing to do")
        else:
            with foretold.asked(found) as answer, _cluster(given) as client:
                main(client, found, answer)
