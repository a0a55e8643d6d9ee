"""Progress is seen where somebody waits, and changes nothing of what is gone through."""

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.base import pipeline, progress
from lib.base.progress import Loop, line, spoken, track


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    progress.place.cache_clear()
    yield
    progress.place.cache_clear()


def test_what_is_short_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "numbers")) == [3, 1, 2]
    assert list(track(iter("ab"), "letters", 2)) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while one round lasts longer than that; and the watch ends with the loops."""
    monkeypatch.setattr(progress, "MINUTE", 0.2)
    _idle()
    for _ in track(range(2), "rounds"):
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0] == "rounds 0 of 2, 0 s"
    assert lines[-1] == "rounds 1 of 2, 1 s, about 1 s left" or lines[-1].startswith("rounds 1 of 2, 1 s, about 0 s")
    _idle()
    assert capsys.readouterr().err == ""


def _idle() -> None:
    end = time.monotonic() + 100 * progress.MINUTE
    while progress._thread is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert progress._thread is None


def test_a_line_tells_the_stage_its_place_and_loops_within_loops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: x}, zoo: {foreach: '${zoo.models}', do: {cmd: x}}}")
    (tmp_path / "params.yaml").write_text("zoo: {models: {left: 1, right: 2}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "zoo@right")
    now = time.monotonic()
    outer, inner = Loop("pairs", 4, began=now - 180, done=1), Loop("epochs", 10, began=now - 5, done=5)
    assert line([outer]) == "zoo@right (stage 3 of 3): pairs 1 of 4, 3 min, about 9 min left"
    assert line([outer, inner]) == "zoo@right (stage 3 of 3): pairs 1 of 4, epochs 5 of 10, 3 min, about 5 min left"
    assert line([Loop("images", None, now - 70, 7)]) == "zoo@right (stage 3 of 3): images 7, 70 s"
    progress.place.cache_clear()
    monkeypatch.setenv("DVC_STAGE", "other")
    assert line([Loop("images", 9, now - 70)]) == "other: images 0 of 9, 70 s"


def test_a_terminal_has_bars_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    seen = [(i, j) for i in track(range(2), "outer") for j in track(range(2), "inner")]
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "outer" in screen.getvalue()
    for i in track([1, 2, 3], "left early"):
        if i == 2:
            break
    assert progress._drawn is None


def test_times_in_words() -> None:
    assert [spoken(s) for s in (0.2, 40, 100, 600, 5400, 100_000)] == [
        "0 s",
        "40 s",
        "2 min",
        "10 min",
        "1.5 h",
        "27.8 h",
    ]


def test_stages_are_named_in_the_order_of_dvc_yaml(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {b: {}, a: {foreach: [1, 2]}, c: {matrix: '${x.y}'}}")
    (tmp_path / "params.yaml").write_text("x: {y: [z]}")
    assert pipeline.names(tmp_path) == ["b", "a@1", "a@2", "c@z"]
    (tmp_path / "params.yaml").write_text("x: 1")
    assert pipeline.names(tmp_path) == []
    assert pipeline.names(tmp_path / "nowhere") == []
