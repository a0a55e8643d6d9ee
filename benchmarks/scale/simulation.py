"""How long a fleet of so many workers would take: its stages, and what each takes, in a model of the scheduler."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from commands.fleet.stages import Stage, weights

GROWTH = {"similarity": 2.0, "partition": 1.0, "edges": 1.0, "assembly": 1.0, "lego": 1.0, "report": 1.0}


@dataclass(frozen=True)
class Outcome:
    """What becomes of a job; seconds: from its beginning to its end; efficiency: the share of the workers' time in
    which they run stages; held: the share of the seconds in which DVC keeps its lock.
    """

    workers: int
    seconds: float
    efficiency: float
    held: float


def simulate(stages: Sequence[Stage], seconds: Mapping[str, float], workers: int, lock: float = 0.0) -> Outcome:
    """Greedy list scheduling: whenever a worker is free, it begins the most urgent of the stages that can begin, by the
    fleet's own order (`weights`).

    seconds: what each stage takes, without DVC. lock: seconds for which DVC, before it, keeps all others from
    beginning, where workers share one folder.
    """
    urgent, waits = weights(stages, seconds), {stage.name: set(stage.after) for stage in stages}
    ready = [(-urgent[name], name) for name, before in waits.items() if not before]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now, unlocked = 0.0, 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, name = heapq.heappop(ready)
            unlocked = max(now, unlocked) + lock
            heapq.heappush(running, (unlocked + seconds[name], name))
        now, ended = heapq.heappop(running)
        for name, before in waits.items():
            if ended in before:
                before.remove(ended)
                if not before:
                    heapq.heappush(ready, (-urgent[name], name))
    work = sum(seconds[stage.name] for stage in stages)
    return Outcome(workers, now, work / (workers * now), lock * len(stages) / now)


def scaling(
    stages: Sequence[Stage], seconds: Mapping[str, float], workers: Iterable[int] = (1, 4, 16, 64), lock: float = 0.0
) -> list[Outcome]:
    """The same job on more and more workers; lock: see `simulate`."""
    return [simulate(stages, seconds, count, lock) for count in workers]


def bound(stages: Sequence[Stage], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds below which no scheduler comes: the longest way through the DAG, or all work shared evenly."""
    return max(*weights(stages, seconds).values(), sum(seconds[stage.name] for stage in stages) / workers)


def longest(stages: Sequence[Stage], seconds: Mapping[str, float]) -> list[str]:
    """The stages of the longest way through the DAG, one after another."""
    urgent = weights(stages, seconds)
    following, found = list(stages), list[str]()
    while following:
        found.append(max(following, key=lambda stage: urgent[stage.name]).name)
        following = [stage for stage in stages if found[-1] in stage.after]
    return found


def grown(
    stages: Iterable[Stage], seconds: Mapping[str, float], times: float, growth: Mapping[str, float] = GROWTH
) -> dict[str, float]:
    """What the stages of a job with so many times the networks take, from what a smaller one took.

    An item takes what those of its stage took in the mean. growth: by stage, the power of `times` by which one run of
    it grows (a network has edges from each other one); stages that are not named take as long as before.
    """
    kinds = dict[str, list[float]]()
    for name, took in seconds.items():
        kinds.setdefault(_kind(name), []).append(took)
    usual = {kind: sum(took) / len(took) for kind, took in kinds.items()}
    return {
        name: usual[kind] * times ** growth.get(kind, 0.0)
        for name, kind in ((stage.name, _kind(stage.name)) for stage in stages)
    }


def _kind(name: str) -> str:
    return name.partition("@")[0]
