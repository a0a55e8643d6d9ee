"""The course of a fleet: each stage is handed to Dask once those that it follows have ended.

Not before, as tasks that depend on tasks: Dask would run again what has ended when the worker that keeps its result is
lost, and blame it for what has killed workers beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distributed import Client, Future, KilledWorker, as_completed

from commands.fleet import apart, task
from commands.fleet.apart import Job, Made
from commands.fleet.board import Board, say
from commands.fleet.foretold import Foretold
from commands.fleet.stages import Stage, keep, seconds, weights


class Course:
    """Of one fleet. jobs: what workers must know of each stage, where they have folders of their own."""

    def __init__(
        self, client: Client, fleet: str, stages: Sequence[Stage], jobs: Mapping[str, Job], board: Board
    ) -> None:
        self._client, self._fleet, self._jobs, self._board = client, fleet, jobs, board
        self._stages = {stage.name: stage for stage in stages}
        self._waits = {stage.name: set(stage.after) for stage in stages}  # those that have not begun, in order
        self._names, self._made = dict[Any, str](), dict[str, Made]()  # by the key of a task; by stage
        self._told, self._took, self._checkout = Foretold(), seconds(), task.checkout()
        there = [worker["resources"] for worker in client.scheduler_info(-1)["workers"].values()]
        self._gpus, self._most = (max((own.get(kind, 0) for own in there), default=0) for kind in ("GPU", "MEMORY"))

    def run(self, foretold: Callable[[], Foretold]) -> None:
        """Until all have ended, or follow one that has failed.

        foretold: what they need: seconds, where they have not run here before, and memory, of which those on a worker
        at no time need more than it has.
        """
        ready = self._ready()
        alone = len(ready) == 1  # what all others follow runs while their needs are foretold
        running = as_completed(self._begun(ready) if alone else [])
        self._told = foretold()
        if not alone:
            running.update(self._begun(ready))
        for batch in running.batches():
            self._end({self._names[future.key]: future for future in batch})
            running.update(self._begun(self._ready()))

    def _ready(self) -> list[str]:
        return [name for name, before in self._waits.items() if not before]

    def _begun(self, names: Iterable[str]) -> list[Future]:
        """The urgent ones, those on the longest way to the end, go first."""
        urgent = weights(self._stages.values(), {**self._told.seconds, **self._took})
        found = []
        for name in names:
            del self._waits[name]
            stage, job = self._stages[name], self._jobs.get(name)
            if job:
                made = {one: self._made[one] for one in stage.after if one in self._made}
                job = replace(job, made={**job.made, **made})
            needs = self._needs(stage)
            future = self._client.submit(
                task.run,
                task.Asked(name, self._fleet, self._checkout, "GPU" in needs, job),
                key=f"{name}-{self._fleet}",
                pure=False,
                resources=needs or None,
                priority=round(1000 * urgent[name]),
            )
            self._names[future.key] = name
            found.append(future)
        return found

    def _needs(self, stage: Stage) -> dict[str, float]:
        """Of what workers have, as far as they say so."""
        memory = self._told.memory.get(stage.name, 0)
        if memory > self._most > 0:
            there = f"{self._most / 2**30:.1f}"
            say(f"{stage.name} may need {memory / 2**30:.1f} GiB of memory; no worker has more than {there}")
        needs = {"GPU": int(bool(self._gpus) and stage.gpu), "MEMORY": min(memory, self._most)}
        return {kind: amount for kind, amount in needs.items() if amount}

    def _end(self, batch: Mapping[str, Any]) -> None:
        """Keeps and tells what has ended, and what does not begin any more."""
        causes = {name: _cause(future.exception()) for name, future in batch.items()}
        done = {name: batch[name].result() for name, cause in causes.items() if cause is None}
        if made := {name: one.made for name, one in done.items() if one.made}:
            apart.put(made)
            self._made |= made
        self._took |= {name: one.seconds for name, one in done.items()}
        keep(self._took)
        for name, cause in causes.items():
            self._board.ended(name, None if cause is None else (name, cause))
            lost = set() if cause is None else {name}
            for other, before in list(self._waits.items()):
                if lost & set(self._stages[other].after):
                    lost.add(other)
                    del self._waits[other]
                    self._board.ended(other, (name, ""))
                elif cause is None:
                    before.discard(name)


def _cause(error: BaseException | None) -> str | None:
    """Why a stage has failed."""
    if isinstance(error, KilledWorker):
        return f"its worker was lost {error.allowed_failures + 1} times"
    if isinstance(error, task.StageFailed):
        return error.args[1]
    return f"{type(error).__name__}: {error}" if error else None
