"""The grammar of random networks, the judge of them, and the tables of `benchmarks.faults`."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.faults import __main__ as faults
from benchmarks.faults import bits, checkpoints, images, judge, kills, networks, pieces
from benchmarks.faults.job import Job
from lib.base import artifacts
from lib.chain.chain import Chain
from lib.channels import coupling
from lib.channels.cutting import Kept, cut
from lib.trace.subnetwork import Part
from tests import thinned

SEEDS = range(100_000, 100_012)
MOST_REFUSED = 0.15  # a share
PLAIN = (
    networks.WEIGHTS | {f"piece:{name}": 0.0 for name in pieces.PIECES} | {"piece:plain": 1.0, "piece:residual": 1.0}
)
RIGHT = networks.draw(0, PLAIN)


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_features_are_as_frequent_as_they_have_to_be(count: int) -> None:
    found = Counter(feature for seed in range(count) for feature in networks.draw(seed).features)
    for feature in ("in-place", "statement", "shared", "gated", "concatenated"):
        assert found[feature] >= count / 10, feature
    assert set(networks.WEIGHTS) >= {f"piece:{name}" for name in pieces.PIECES}
    assert count < 2000 or set(networks.WEIGHTS) <= set(found), set(networks.WEIGHTS) - set(found)


def test_a_network_depends_on_its_number_alone() -> None:
    torch.manual_seed(1)
    first = networks.draw(5)
    torch.rand(3)
    again = networks.draw(5)
    assert first == again
    x = first.images(2)
    with torch.no_grad():
        assert torch.equal(first.build()(x.clone()), again.build()(x.clone()))
    assert first.text != networks.draw(6).text


@pytest.mark.parametrize("seed", thinned(SEEDS, 2))
def test_no_network_is_wrong_in_silence(seed: int) -> None:
    verdict = judge.judge(networks.draw(seed))
    assert verdict.outcome in ("right", "refused"), verdict.text
    _REFUSED[seed] = verdict.outcome == "refused"


_REFUSED: dict[int, bool] = {}


def test_few_networks_are_refused() -> None:
    """Of those that the tests above have judged."""
    assert sum(_REFUSED.values()) <= MOST_REFUSED * max(len(_REFUSED), 20) + 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_none_of_two_thousand_networks_is_wrong_in_silence() -> None:
    found = faults.of_networks(2000, 0)
    assert not found.faults
    assert found.refused <= MOST_REFUSED * 2000


class _Unmindful(Chain):
    """A chain that forgets a gate or a shortcut in one of its parts, and does not look."""

    def verify(self, x: torch.Tensor) -> None:
        """Nothing is compared."""

    def __getitem__(self, span: slice) -> Part:
        part = super().__getitem__(span)
        part.register_forward_hook(_slightly_more)
        return part


def _slightly_more(_module: nn.Module, _given: object, made: torch.Tensor) -> torch.Tensor:
    return made * 1.0001


def _worse(source: nn.Module, component: nn.Module, *_: object, **__: object) -> nn.Module:
    for parameter in component.parameters():
        parameter.mul_(1.1)
    return component


def _another(model: nn.Module, kept: Kept, shape: tuple[int, ...]) -> nn.Module:
    component = cut(model, kept, shape)
    [*component.parameters()][-1].add_(1e-4)
    return component


@pytest.mark.parametrize(
    ("name", "spoilt", "checks"),
    [
        ("Chain", _Unmindful, {"nodes", "training"}),
        ("cut", _another, {"cut_nothing", "cut_half"}),
        ("repair", _worse, {"repairs"}),
        ("silence", lambda model, coupling, chosen: None, {"cut_half"}),
    ],
)
def test_the_judge_finds_what_is_wrong(
    name: str, spoilt: object, checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, name, spoilt)
    subject = judge.Subject(RIGHT)
    assert {judge.tried(judge.CHECKS[check], subject)[0] for check in checks} == {"wrong"}


def test_the_judge_finds_channels_that_are_not_coupled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing would join the two sides of an addition, cutting fails, or is refused by its own comparison."""
    assert judge.judge(RIGHT).outcome == "right"
    monkeypatch.setattr(coupling._Coupling, "join", lambda self, a, b: None)
    assert judge.tried(judge.cut_half, judge.Subject(RIGHT))[0] != "right"


@pytest.mark.parametrize("case", list(images.cases()), ids=images.names(list(images.cases())))
def test_images_are_right_or_refused(case: images.Case | images.Chosen, tmp_path: Path) -> None:
    assert images.fault(case, tmp_path) is None


@pytest.mark.parametrize("kind", ["json", "csv", "safetensors"])
def test_a_flipped_bit_is_noticed(kind: str, tmp_path: Path) -> None:
    import pandas

    file = tmp_path / f"made.{kind}"
    if kind == "json":
        artifacts.write_json(file, {"a": [1, 2.5, "é"], "b": None})
    elif kind == "csv":
        artifacts.write_csv(file, pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    else:
        artifacts.write_tensors(file, {"x": torch.rand(3, 2)})
    assert bits.said(file) == "not noticed"
    whole = file.read_bytes()
    for path, bit in bits.flips([file], 40, seed=1):
        with bits.flipped(path, bit):
            assert bits.said(path) is None
    assert file.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_job_survives_kills_and_notices_flipped_bits(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.dvc("repro")
    assert bits.tried(job, 100) == (100, [])
    assert kills.tried(job, 50) == (50, [])


def test_the_last_line_is_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    faults.main(quick=True, seed=0, count=2, only=["networks", "checkpoints"])
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {
        "checkpoint_cases": len(list(checkpoints.cases())),
        "checkpoint_bad": 0,
        "random_networks": 2,
        "networks_wrong": 0,
        "networks_tracebacks": 0,
        "networks_refused_share": pytest.approx(0.5, abs=0.5),
    }
