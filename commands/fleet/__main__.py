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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from commands import in_one_line, names
from commands.fleet import warm
from lib.base.errors import BrickyardError

if TYPE_CHECKING:
    from distributed import Client, Future

    from commands.fleet.apart import Job
    from commands.fleet.board import Board
    from commands.fleet.stages import Stage


def main(
    client: "Client",
    stages: "Sequence[Stage]",
    memory: Mapping[str, int] | None = None,
    foretold: Mapping[str, float] | None = None,
) -> None:
    """Runs them all. Raises BrickyardError where some have failed, or workers have another checkout.

    memory: bytes that stages need, by name; at no time do those on a worker need more than it has.
    foretold: seconds that they take, where they have not run here before.
    """
    from commands.fleet import task
    from commands.fleet.board import Board
    from commands.fleet.stages import seconds, weights

    fleet, board = uuid4().hex[:8], Board(stages)
    with _jobs(client, stages, fleet) as jobs:
        client.subscribe_topic(task.TOPIC, lambda event: board.started(event[1]))
        urgent = weights(stages, {**(foretold or {}), **seconds()})
        futures = _submitted(client, stages, fleet, jobs, memory or {}, urgent)
        try:
            with board.shown():
                _follow(futures, board)
        except KeyboardInterrupt:
            client.run(task.stop, fleet)  # what has not begun is wanted by nobody any more
            raise
        finally:
            client.unsubscribe_topic(task.TOPIC)
        if jobs:
            from commands.fleet import apart

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
        called = {address: worker["name"] for address, worker in client.scheduler_info(-1)["workers"].items()}
        for worker, (found, _) in looked.items():
            if found != own:
                name = called.get(worker, worker)
                raise BrickyardError(f"worker {name} has other params or code than this checkout: bring it to the same")
        if all(shares for _, shares in looked.values()):
            yield {}
            return
        erase = apart.sign(fleet)
        try:
            seen: Any = client.run(apart.reads, fleet)
            for worker, why in seen.items():
                if why:
                    raise BrickyardError(f"worker {called.get(worker, worker)}: {why}")
            yield apart.begin([stage.name for stage in stages])
        finally:
            with suppress(Exception):  # of a storage: a file of six bytes stays there
                erase()
    finally:
        signature.unlink(missing_ok=True)


def _submitted(
    client: "Client",
    stages: "Sequence[Stage]",
    fleet: str,
    jobs: "Mapping[str, Job]",
    memory: Mapping[str, int],
    urgent: Mapping[str, float],
) -> "dict[str, Future]":
    """The stages as tasks, by name; the urgent ones, those on the longest way to the end, go first."""
    from commands.fleet import task
    from commands.fleet.board import say

    there = [worker["resources"] for worker in client.scheduler_info(-1)["workers"].values()]
    gpus, most = (max((own.get(kind, 0) for own in there), default=0) for kind in ("GPU", "MEMORY"))
    checkout = task.checkout()
    futures: dict[str, Future] = {}
    for stage in stages:
        gpu, bytes_ = bool(gpus) and stage.gpu, memory.get(stage.name, 0)
        if bytes_ > most > 0:
            say(f"{stage.name} may need {bytes_ / 2**30:.1f} GiB of memory; no worker has more than {most / 2**30:.1f}")
        needs = {"GPU": int(gpu), "MEMORY": min(bytes_, most)}
        futures[stage.name] = client.submit(
            task.run,
            task.Asked(stage.name, fleet, checkout, gpu, jobs.get(stage.name)),
            *(futures[name] for name in stage.after),
            key=f"{stage.name}-{fleet}",
            pure=False,
            resources={kind: amount for kind, amount in needs.items() if amount} or None,
            priority=round(1000 * urgent[stage.name]),
        )
    return futures


def _follow(futures: "dict[str, Future]", board: "Board") -> None:
    """Tells and keeps what ends, until all has."""
    from distributed import as_completed

    from commands.fleet import apart
    from commands.fleet.stages import keep, seconds

    by_key, took = {future.key: name for name, future in futures.items()}, seconds()
    for batch in as_completed(futures.values()).batches():
        ended = {by_key[future.key]: _cause(future.exception()) for future in batch}
        done = {name: futures[name].result() for name, cause in ended.items() if not cause}
        if made := {name: one.made for name, one in done.items() if one.made}:
            apart.put(made)
        took |= {name: one.seconds for name, one in done.items()}
        keep(took)
        for name, cause in ended.items():
            board.ended(name, cause)
            del futures[name]  # else Dask runs it again when the worker that remembers its result is lost


def _cause(error: BaseException | None) -> tuple[str, str] | None:
    """The stage whose failure this is, and what it has said; None where there is none."""
    from distributed import KilledWorker

    from commands.fleet.task import StageFailed

    if isinstance(error, KilledWorker):
        return str(error.task).rpartition("-")[0], f"its worker was lost {error.allowed_failures + 1} times"
    if isinstance(error, StageFailed):
        name, said = error.args
        return name, said
    return ("", f"{type(error).__name__}: {error}") if error else None


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
        if given.serve or given.join:
            from commands.fleet import clusters

            clusters.serve(given.serve) if given.serve else clusters.join(given.join, given.local or 1)
        if warm.possible() and not warm.found() and not _elsewhere(given):
            os.environ["PATH"] = f"{warm.begin()}{os.pathsep}{os.environ['PATH']}"  # imports while DVC is asked
        # silent: read when distributed is imported, by workers on this machine, too
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "60")
        from commands.fleet.stages import to_run

        names.main(Path("params.yaml"))
        if not (found := to_run(given.targets)):
            print("nothing to do")
        else:
            with _cluster(given) as client:
                main(client, found)
