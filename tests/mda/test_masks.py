from typing import Any

import pytest
import torch

from lib.errors import BrickyardError
from lib.mda.masks import allocate, class_masks, masks, overall, relative, shares, table
from lib.mda.walk import Layer, walk
from lib.params.contributions import Threshold
from tests.mda import pico

THRESHOLDS = {"conv": Threshold(alpha=0.3, beta=0.2), "linear": Threshold(alpha=0.4, beta=0.3)}


def test_relative() -> None:
    assert relative(torch.tensor([[1.0, 3, 5], [0, 0, 4]])).tolist() == [[0, 0.5, 1], [0, 0, 1]]


def test_equal_values_and_single_channels_count_as_one() -> None:
    assert relative(torch.tensor([[2.0, 2], [0, 0]])).tolist() == [[1, 1], [0, 0]]
    assert relative(torch.tensor([[7.0], [0.0]])).tolist() == [[1], [0]]


def test_allocate_by_hand() -> None:
    """Soft rows [0, .3, 1, .5], [1, 0, .1, .4]; hard at .3: [0, 0, 1, 1], [1, 0, 0, 1]; sums [1, 0, 1, 2]."""
    contribution = torch.tensor([[0.0, 3, 10, 5], [10, 0, 1, 4], [0, 99, 0, 0]])
    kept = torch.tensor([True, True, False])
    assert allocate(contribution, kept, Threshold(alpha=0.3, beta=0.2)).tolist() == [True, False, True, True]
    assert allocate(contribution, kept, Threshold(alpha=0.3, beta=0.5)).tolist() == [False, False, False, True]


def _naive(model: Any, x: torch.Tensor, c: int) -> dict[str, list[bool]]:
    """The walk written out for `pico.plain` in double precision."""
    model = model.double()
    with torch.no_grad():
        first = model[0](x.double())
        flat = model[4](model[3](model[2](model[1](first))))
        last = model[8](model[7](model[6](flat)))
    steps = [
        ("9", pico.naive_linear(last, model[9]), 0.4, 0.3, "6"),
        ("6", pico.naive_linear(flat, model[6], 4), 0.4, 0.3, "1"),
        ("1", pico.naive_conv(first, model[1]), 0.3, 0.2, "0.0"),
    ]
    found = {"9": [o == c for o in range(model[9].out_features)]}
    for layer, sums, alpha, beta, before in steps:
        total = [0.0] * sums.shape[1]
        for o, keep in enumerate(found[layer]):
            row = sums[o].tolist()
            for i, value in enumerate(row):
                spread = max(row) - min(row)
                total[i] += keep and spread > 0 and (value - min(row)) / spread > alpha
        found[before] = [(t - min(total)) / (max(total) - min(total)) > beta for t in total]
    return found


def test_masks_equal_the_naive_walk() -> None:
    for seed in range(5):
        model = pico.plain(widths=(6, 8, 16), seed=seed)
        layers = walk(model, "pico", pico.SHAPE)
        x = pico.images(9, seed)
        batches = [[(x[c::3], torch.full((3,), c))] for c in range(3)]
        found = masks(model, layers, batches, ["a", "b", "c"], THRESHOLDS, "pico")
        assert {name: tuple(mask.shape) for name, mask in found.items()} == {
            "0.0": (3, 6), "1": (3, 8), "6": (3, 16), "9": (3, 3),
        }  # fmt: skip
        for c in range(3):
            expected = _naive(pico.plain(widths=(6, 8, 16), seed=seed), x[c::3], c)
            assert {name: mask[c].tolist() for name, mask in found.items()} == expected


def test_emptied_layer_is_refused_by_name() -> None:
    layers = (Layer("a", "conv", 2), Layer("b", "conv", 2), Layer("c", "linear", 2))
    contribution = {"b": torch.zeros(2, 2), "c": torch.eye(2)}
    match = "pico: class 'cat' keeps no channel of layer a at contributions.conv alpha 0.3, beta 0.2"
    with pytest.raises(BrickyardError, match=match):
        class_masks(layers, contribution, 0, THRESHOLDS, "pico: class 'cat'")


def test_shares_and_table() -> None:
    found = {
        "a": torch.tensor([[True, False], [True, True]]),
        "b": torch.tensor([[True] * 4, [False] * 4]),
        "classifier": torch.eye(2).bool(),
    }
    assert shares(found) == {"a": 0.75, "b": 0.5}
    assert overall(found) == pytest.approx(7 / 12)
    assert table(found, ["x", "y"])[2] == {"class": "y", "layer": "a", "channels": 2, "kept": 2}
    assert len(table(found, ["x", "y"])) == 4
