"""Components made side by side, in processes of one thread each."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.mda.lab import MADE, Lab, Wanted
from lib.base.progress import track
from lib.params.base import read
from lib.params.run import Run
from stages import prepare


def make(lab: Lab, wanted: Iterable[Wanted], jobs: int) -> None:
    """Makes and asks those that are missing. One that cannot be made stops the others; what is finished is kept."""
    missing: dict[tuple[str, tuple[int, ...]], list[Wanted]] = {}
    for one in dict.fromkeys(wanted):
        if not (lab.source(one.source).folder(one.classes, one.way) / MADE).exists():
            missing.setdefault((one.source, one.classes), []).append(one)
    if jobs == 1 or not missing:
        return  # they are made when they are asked for
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start, (lab.training, lab.few))
    try:
        list(pool.map(_ask, *zip(*_splits(missing).items(), strict=True)))  # once for each network
        parts = [pool.submit(_make, own) for own in missing.values()]
        for part in track(as_completed(parts), "components", len(parts)):
            part.result()
    finally:
        pool.shutdown(cancel_futures=True)


_own: list[Lab] = []  # of this process


def _start(training: Path, few: int | None) -> None:
    prepare(read("run", Run))
    _own.append(Lab(training, few))


def _splits(wanted: Mapping[tuple[str, tuple[int, ...]], Iterable[Wanted]]) -> dict[str, list[str]]:
    """On whose images each network is asked, as its components are."""
    found: dict[str, dict[str, None]] = {}
    for (source, _), own in wanted.items():
        found.setdefault(source, {}).update(dict.fromkeys(split for one in own for split in one.splits))
    return {source: list(splits) for source, splits in found.items()}


def _ask(name: str, splits: Iterable[str]) -> None:
    """A network itself, and for its most confident images."""
    source = _own[0].source(name)
    _ = source.selected
    for split in splits:
        source.answers(split)


def _make(wanted: Iterable[Wanted]) -> None:
    """Those of one network and task, whose contributions are counted once."""
    for one in wanted:
        component = _own[0].source(one.source).component(one.classes, one.way)
        for split in one.splits:
            _own[0].answers(component.module, component.recipe, split, () if one.everywhere else one.classes)
