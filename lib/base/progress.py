"""How far long loops are: bars where there is a terminal; else a line a minute, and nothing of what takes less."""

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
MINUTE = 60.0  # seconds between two lines


@dataclass(eq=False)
class Loop:
    """A loop that runs: what it does, how many rounds it has, if that is known, and how many are done."""

    what: str
    total: int | None
    began: float = field(default_factory=time.monotonic)
    done: int = 0


_running: list[Loop] = []  # outermost first
_watch = threading.Condition()
_thread: threading.Thread | None = None
_drawn: "Progress | None" = None


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yields `items` and shows on standard error how far they are; total: how many, where they do not say so."""
    loop = Loop(what, len(items) if total is None and isinstance(items, Sized) else total)
    with (_bars if sys.stderr.isatty() else _lines)(loop) as advance:
        for item in items:
            yield item
            loop.done += 1
            advance()


def spoken(seconds: float) -> str:
    """A time in words, as exactly as one would say it: 40 s, 7 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@cache
def place() -> tuple[str, str]:
    """The stage that DVC runs here, and which of how many of the pipeline it is: `edges@resnet`, `stage 21 of 30`;
    empty where there is none.

    Counted in the order of dvc.yaml, which one file tells in milliseconds: how many of them this run will do, only
    whoever started it knows.
    """
    stage = os.environ.get("DVC_STAGE", "")
    if not stage:
        return "", ""
    pipeline: Any = importlib.import_module(".pipeline", __package__)  # by name: no result depends on it
    known = pipeline.names()
    return stage, f"stage {known.index(stage) + 1} of {len(known)}" if stage in known else ""


@contextmanager
def _bars(loop: Loop) -> Iterator[Callable[[], object]]:
    """A bar a loop, those of loops within it below it."""
    global _drawn
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    outer = _drawn
    if outer is None:
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        _drawn = Progress(*columns, console=Console(stderr=True), transient=True)
        _drawn.start()
    drawn, (_, which) = _drawn, place()
    assert drawn is not None
    bar = drawn.add_task(f"{which}: {loop.what}" if which and outer is None else loop.what, total=loop.total)
    try:
        yield lambda: drawn.advance(bar)
    finally:
        drawn.remove_task(bar)
        if outer is None:
            drawn.stop()
            _drawn = None


@contextmanager
def _lines(loop: Loop) -> Iterator[Callable[[], object]]:
    global _thread
    with _watch:
        _running.append(loop)
        if _thread is None:
            _thread = threading.Thread(target=_tell, name="progress", daemon=True)
            _thread.start()
    try:
        yield lambda: None
    finally:
        with _watch:
            _running.remove(loop)
            _watch.notify()


def _tell() -> None:
    """Says every minute how far loops are that have run for so long, until none runs."""
    global _thread
    told = 0.0
    with _watch:
        while _running:
            left = max(told, _running[0].began) + MINUTE - time.monotonic()
            if left > 0:
                _watch.wait(left)
            else:
                print(line(_running), file=sys.stderr, flush=True)
                told = time.monotonic()
        _thread = None


def line(loops: list[Loop]) -> str:
    """How far loops are of which each runs in a round of the one before: `edges@resnet (stage 21 of 30): edges to
    resnet 12 of 40, 3 min, about 7 min left`.
    """
    stage, which = place()
    passed = time.monotonic() - loops[0].began
    title = f"{stage} ({which}): " if which else f"{stage}: " if stage else ""
    far = ", ".join(f"{one.what} {one.done}{f' of {one.total}' if one.total else ''}" for one in loops)
    share = 0.0
    for one in reversed(loops):
        share = (one.done + share) / one.total if one.total else 0.0
    left = f", about {spoken(passed * (1 / share - 1))} left" if share > 0 else ""
    return f"{title}{far}, {spoken(passed)}{left}"
