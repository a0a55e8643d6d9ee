"""Latencies: every node measured, kept in a file, refused where they are missing."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.chain import latency, timing
from lib.chain.chain import Chain
from tests import pico


class Clock:
    """A clock that only `Timed` moves."""

    now = 0.0


class Timed(nn.Module):
    """Takes 0.1 s the first two times, then 5 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(8, 8, 1), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        Clock.now += 0.1 if self.calls <= 2 else 0.005
        return self.conv(x)


def _chain() -> Chain:
    blocks = nn.Sequential(pico.Residual(3, 8), nn.Sequential(Timed(), nn.ReLU()), pico.Residual(8, 8))
    model = nn.Sequential(blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return Chain("uneven", model.eval(), pico.IMAGE, declared=["0.0", "0.1", "0.2"])


def test_the_median_after_a_warm_up_comes_back_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(timing.time, "thread_time", lambda: 0.8 * Clock.now)
    chain, watch = _chain(), timing.Stopwatch(repeats=5)
    found = timing.measure(chain, torch.rand(2, *pico.IMAGE), watch)
    assert found.nodes == pytest.approx((0.0, 5.0, 0.0))
    assert found.head == 0.0
    assert watch.share == pytest.approx(0.8)
    assert not watch.undisturbed
    nodes = dict(zip(["0.0", "0.1", "0.2"], found.nodes, strict=True))
    measured = {"uneven": latency.Measured(latency.fingerprint(chain), nodes, found.head)}
    stored = latency.Latencies(measured, latency.StitchLatency(0.25, 2.0), {"device": "cpu"})
    latency.save(tmp_path / "latency.json", stored)
    again = latency.load(tmp_path / "latency.json")
    assert again.made == {"unit": "ms a batch", "device": "cpu"}
    assert again.of(chain).block(0, 2) == pytest.approx(5.0)
    assert again.stitch.of(1_500_000_000) == pytest.approx(3.25)


def test_a_stitch_takes_time_for_its_size() -> None:
    found = timing.measure_stitch(1, torch.device("cpu"), timing.Stopwatch(repeats=1))
    assert found.base >= 0
    assert found.per_gmac >= 0


def test_time_in_which_others_had_the_core_is_noticed() -> None:
    watch = timing.Stopwatch(repeats=3)
    assert watch.undisturbed  # nothing has been measured
    watch.median(lambda x: time.sleep(0.01) or x, torch.zeros(1))
    assert watch.share < 0.5
    assert not watch.undisturbed


def test_nodes_without_a_measurement_are_named(tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / "latency.json", {"networks": {}})
    with pytest.raises(BrickyardError, match=r"nothing has been measured yet: \./run python -m commands\.latency"):
        latency.load(tmp_path / "latency.json")
    measured = latency.Latencies({}, latency.StitchLatency(0, 0), {})
    with pytest.raises(BrickyardError, match="latency: uneven has not been measured"):
        measured.of(_chain())


def test_other_widths_under_the_same_names_are_another_network() -> None:
    def chain(width: int) -> Chain:
        return Chain("net", pico.PicoResNet(width=width).eval(), pico.IMAGE)

    first = latency.fingerprint(chain(6))
    assert [node.name for node in chain(6).nodes] == [node.name for node in chain(8).nodes]
    assert latency.fingerprint(chain(6)) == first != latency.fingerprint(chain(8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"networks": [1]}, "networks|: Input should be a valid dictionary"),
        ({"networks": {"a": {"nodes": {}, "head": 1}}}, "a.made_of: Field required"),
        ({"networks": {"a": {"made_of": "", "nodes": {"b": -1}, "head": 1}}}, "a.nodes.b: Input should be greater"),
        ({"networks": {"a": {"made_of": "", "nodes": {}, "head": "<b>"}}}, "a.head: Input should be a valid number"),
        ({"networks": {"a": {"made_of": "", "nodes": {}, "head": 1}}}, "latency.json: : Input should be a dict"),
    ],
)
def test_a_file_by_another_hand_is_one_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / "latency.json", change)
    with pytest.raises(BrickyardError, match=said):
        latency.load(tmp_path / "latency.json")


def test_a_damaged_file_is_to_be_measured_anew(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    artifacts.write_json(file, {"networks": {}})
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(
        BrickyardError, match=r"latency\.json is damaged; measure anew: \./run python -m commands\.latency"
    ):
        latency.load(file)
