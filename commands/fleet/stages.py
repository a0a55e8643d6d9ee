"""The stages of the DAG, as a fleet needs to know them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from commands import SCRATCH
from lib.base import artifacts, usage
from lib.base.errors import BrickyardError

ON_GPU = {  # stages that use the device of BRICKYARD_DEVICE
    *("zoo", "activations", "similarity", "edges", "bricks", "assembly", "finetune"),
    *("contributions", "components", "lego"),
}
_TIMES = SCRATCH / "fleet" / "seconds.json"


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
    order, changed = _asked(targets)
    recoded = coded() if coded is not None and "code" in changed else set(order)
    found = dict[str, Stage]()
    for name, after in order.items():
        moved = any(one in found for one in after if one != "code" or name in recoded)
        if name in changed or moved:
            found[name] = Stage(name, tuple(one for one in after if one in found))
    return list(found.values())


def _asked(targets: Sequence[str]) -> tuple[Mapping[str, Sequence[str]], set[str]]:
    """Of DVC: the stages before which each stage cannot run, in an order in which they can; those that have changed."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from networkx import descendants, topological_sort

    try:
        with Repo() as repo, lock_repo(repo):
            graph = repo.index.graph  # from each stage to those that it depends on
            wanted = {stage for target in targets for stage in repo.stage.collect(target)} or set(graph)
            changed = repo.status(targets=list(targets) or None, with_deps=bool(targets))
    except DvcException as error:
        raise BrickyardError(" ".join(str(error).split())) from None
    kept = graph.subgraph(wanted.union(*(descendants(graph, stage) for stage in wanted)))
    order = [stage for stage in reversed(list(topological_sort(kept))) if stage.cmd]
    after = {stage: sorted(one.addressing for one in kept.successors(stage) if one.cmd) for stage in order}
    return {stage.addressing: names for stage, names in after.items()}, set(changed)


def seconds() -> dict[str, float]:
    """What stages took when they ran last, by name: where a worker ran them, or in this folder by themselves."""
    found = dict[str, float]()
    with suppress(BrickyardError):  # not there, or damaged: an order of urgency is all that depends on it
        found = artifacts.read_json(_TIMES)
    return {**found, **usage.seconds(SCRATCH / "usage")}


def keep(seconds: Mapping[str, float]) -> None:
    """Keeps what stages took for the next time."""
    artifacts.write_json(_TIMES, dict(sorted(seconds.items())))


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
