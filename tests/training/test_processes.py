"""Two processes on CPUs, over gloo, come to what one comes to."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.base.code import ROOT
from lib.training.team import divide
from tests.training import together

SLACK: dict[str, Any] = {"rtol": 2e-4, "atol": 2e-5}  # sums in another order, through six steps of AdamW


@pytest.mark.parametrize("n", [2, 3, 4, 5, 15, 16, 17, 63])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_image_is_seen_once_beside_the_one_it_is_mixed_with(n: int, parts: int, count: int) -> None:
    shares = [divide(n, parts, rank, count) for rank in range(count)]
    assert len({len(share.parts) for share in shares}) == 1
    seen = np.concatenate([share.rows for share in shares])
    if shares[0].whole:
        assert all(np.array_equal(share.rows, np.arange(n)) for share in shares)
        assert n < 2 * parts * count
    else:
        assert sorted(seen) == list(range(n))
    for share in shares:
        assert set(n - 1 - share.rows) == set(share.rows)
        assert sorted(np.concatenate([places for places, _ in share.parts])) == list(range(len(share.rows)))
        assert sum(weight for _, weight in share.parts) == pytest.approx(
            len(share.rows) / n * (1 if share.whole else count)
        )
    whole = divide(n, parts)
    assert min(len(places) for places, _ in whole.parts) >= 2
    for i, (places, _) in enumerate(whole.parts):
        among = [share.rows[share.parts[i][0]] for share in (shares[:1] if shares[0].whole else shares)]
        assert set(np.concatenate(among)) == set(places)


def _run(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    ended = _run(["tests.training.together", str(folder)], BRICKYARD_PROCESSES="2")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return folder


@pytest.mark.parametrize("kind", [kind for kind in together.KINDS if kind != "dropout"])
def test_two_processes_come_to_the_weights_of_one(kind: str, found: Path) -> None:
    (state, curve), (other, its) = (torch.load(found / f"{kind}{rank}.pt") for rank in range(2))
    assert its == curve
    assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())
    alone, expected = together.trained(kind)
    torch.testing.assert_close([row["loss"] for row in curve], [row["loss"] for row in expected], **SLACK)
    before = together.network(kind).state_dict()
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(state[name], tensor, **SLACK, msg=lambda text, name=name: f"{name}: {text}")
    assert any(not torch.allclose(state[name], before[name], **SLACK) for name in before)


def test_two_processes_go_on_where_they_were_stopped(found: Path) -> None:
    """Each with its own random numbers, which are not those of the other."""
    for rank in range(2):
        (state, curve), (resumed, its) = (torch.load(found / f"{kind}{rank}.pt") for kind in ("dropout", "resumed"))
        assert its == curve
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in state.items())
        assert (found / f"states{rank}.json").read_text() == "1"
