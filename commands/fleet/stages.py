"""The stages of the DAG, as a fleet needs to know them."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from commands import said
from lib.base.errors import BrickyardError

ON_GPU = {"zoo", "finetune"}  # stages that use the device of BRICKYARD_DEVICE


@dataclass(frozen=True)
class Stage:
    """One that has to run; after: those among them that it follows."""

    name: str
    after: tuple[str, ...]

    @property
    def gpu(self) -> bool:
        """Whether it uses the device that BRICKYARD_DEVICE names."""
        return self.name.partition("@")[0] in ON_GPU


def to_run(targets: Sequence[str], coded: Callable[[], Collection[str]] | None = None) -> list[Stage]:
    """What `dvc repro` of these targets, all stages where there are none, would look at: what has changed, and what
    follows it, each behind what it follows. Raises BrickyardError where DVC cannot read the DAG.

    coded: names those that run for what stage `code` alone will write; None: they may be any.
    """
    order = _graph(targets)
    try:
        changed = set(json.loads(said("status", "--json", *(["--with-deps", *targets] if targets else []))))
    except ValueError as error:
        raise BrickyardError(f"dvc status says no JSON: {error}") from None
    recoded = coded() if coded is not None and "code" in changed else set(order)
    found = dict[str, Stage]()
    for name, after in order.items():
        moved = any(one in found for one in after if one != "code" or name in recoded)
        if name in changed or moved:
            found[name] = Stage(name, tuple(one for one in after if one in found))
    return list(found.values())


def _graph(targets: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The stages before which each stage cannot run, in an order in which they can."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from networkx import descendants, topological_sort

    try:
        with Repo() as repo:
            graph = repo.index.graph  # from each stage to those that it depends on
            wanted = {stage for target in targets for stage in repo.stage.collect(target)} or set(graph)
    except DvcException as error:
        raise BrickyardError(" ".join(str(error).split())) from None
    kept = graph.subgraph(wanted.union(*(descendants(graph, stage) for stage in wanted)))
    order = [stage for stage in reversed(list(topological_sort(kept))) if stage.cmd]
    return {stage.addressing: sorted(one.addressing for one in kept.successors(stage) if one.cmd) for stage in order}


def weights(stages: Iterable[Stage], seconds: Mapping[str, float]) -> dict[str, float]:
    """How long it takes from the beginning of each stage to the end of all that follows it on the longest way.

    seconds: what stages took before; one that is not known counts as the mean of those that are.
    """
    usual = sum(seconds.values()) / len(seconds) if seconds else 1.0
    listed, found = list(stages), dict[str, float]()
    for stage in reversed(listed):
        behind = [found[one.name] for one in listed if stage.name in one.after]
        found[stage.name] = seconds.get(stage.name, usual) + max(behind, default=0.0)
    return found
