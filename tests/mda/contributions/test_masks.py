import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.channels.channels import Coupling, Layer
from lib.channels.coupling import couple
from lib.mda.contributions.masks import Evidence, masks, overall, relative, shares, table
from lib.mda.contributions.scores import gather
from lib.params.contributions import Contributions, Threshold
from lib.trace import graph
from tests.mda import pico

PARAMS = Contributions(
    models=["pico"],
    images_per_class=3,
    conv=Threshold(alpha=0.3, beta=0.2),
    linear=Threshold(alpha=0.4, beta=0.3),
    batch_size=3,
)
THRESHOLDS = PARAMS.thresholds


def test_relative() -> None:
    assert relative(torch.tensor([[1.0, 3, 5], [0, 0, 4]])).tolist() == [[0, 0.5, 1], [0, 0, 1]]


def test_equal_values_and_single_channels_count_as_one() -> None:
    assert relative(torch.tensor([[2.0, 2], [0, 0]])).tolist() == [[1, 1], [0, 0]]
    assert relative(torch.tensor([[7.0], [0.0]])).tolist() == [[1], [0]]


def _line(*widths: int) -> Coupling:
    """Convolutions in one line, with a linear layer at the end; widths: of the channels, the image's first."""
    ends = list(itertools.accumulate(widths, initial=0))
    spans = [tuple(range(start, end)) for start, end in itertools.pairwise(ends)]
    layers = [Layer("abcdefg"[i], "conv", *pair) for i, pair in enumerate(itertools.pairwise(spans))]
    layers[-1] = replace(layers[-1], kind="linear")
    return Coupling(ends[-1], frozenset(spans[0]), tuple(layers), {})


def _kept(evidence: Evidence, output: int, layer: str, thresholds: Any = None) -> list[bool]:
    margins = evidence.margins(output, thresholds or THRESHOLDS)
    outputs = next(la.outputs for la in evidence.coupling.layers if la.name == layer)
    return (margins[list(outputs)] > 0).tolist()


def test_allocation_by_hand() -> None:
    """Layer b: soft rows [0, .3, 1, .5], [1, 0, .1, .4]; hard at .3: [0, 0, 1, 1], [1, 0, 0, 1]; sums [1, 0, 1, 2]."""
    b = relative(torch.tensor([[0.0, 3, 10, 5], [10, 0, 1, 4], [0, 99, 0, 0]]))
    classifier = torch.tensor([[1.0, 1, 0], [0, 1, 1]])
    evidence = Evidence(_line(1, 4, 3, 2), {0: {"b": b, "c": classifier}})
    assert _kept(evidence, 0, "b") == [True, True, False]
    assert _kept(evidence, 0, "a") == [True, False, True, True]
    high = {**THRESHOLDS, "conv": Threshold(alpha=0.3, beta=0.5)}
    assert _kept(evidence, 0, "a", high) == [False, False, False, True]
    # the soft ones that are above alpha add up to [1, 0, 1, .9]
    assert _kept(replace(evidence, binary=False), 0, "a", high) == [True, False, True, True]
    assert _kept(evidence, 0, "c") == [True, False]
    assert (evidence.margins(0, THRESHOLDS)[0] > 0).item(), "the image's channels stay"


def test_a_stream_is_decided_once_from_all_its_readers() -> None:
    """s = a(image); s += c(b(s)); classifier(s): the logits want channel 0 of s, b, which is kept for it, channel 2."""
    image, s, h, logits = (0,), (1, 2, 3), (4, 5), (6, 7)
    layers = (
        Layer("a", "conv", image, s), Layer("b", "conv", s, h), Layer("c", "conv", h, s),
        Layer("d", "linear", s, logits),
    )  # fmt: skip
    coupling = Coupling(8, frozenset(image), layers, {})
    assert coupling.streams == (s, h, logits)
    soft = {
        "d": torch.tensor([[1.0, 0, 0], [0, 1, 0]]),
        "c": torch.tensor([[1.0, 0], [0, 1], [0, 1]]),  # channel 0 of s is made from the first of h, the others not
        "b": torch.tensor([[0.0, 0, 1], [0, 1, 0]]),
    }
    evidence = Evidence(coupling, {0: soft, 1: soft})
    assert [_kept(evidence, 0, layer) for layer in "abc"] == [[True, False, True], [True, False], [True, False, True]]
    assert [_kept(evidence, 1, layer) for layer in "abc"] == [[False, True, False], [False, True], [False, True, False]]


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
        coupling = couple(graph.trace(model, "pico", pico.SHAPE), "pico")
        x = pico.images(9, seed)
        batches = {c: [(x[c::3], torch.full((3,), c))] for c in range(3)}
        found = masks(gather(model, coupling, batches, PARAMS, 0), ["a", "b", "c"], THRESHOLDS, "pico")
        assert {name: tuple(mask.shape) for name, mask in found.items()} == {
            "0.0": (3, 6), "1": (3, 8), "6": (3, 16), "9": (3, 3),
        }  # fmt: skip
        for c in range(3):
            expected = _naive(pico.plain(widths=(6, 8, 16), seed=seed), x[c::3], c)
            assert {name: mask[c].tolist() for name, mask in found.items()} == expected


def test_emptied_layer_is_refused_by_name() -> None:
    evidence = Evidence(_line(1, 2, 2, 2), {0: {"b": torch.zeros(2, 2), "c": torch.eye(2)}})
    match = r"pico: class 'cat' keeps no channel of layer a at contributions\.conv alpha 0\.3, beta 0\.2"
    with pytest.raises(BrickyardError, match=match):
        masks(evidence, ["cat"], THRESHOLDS, "pico")


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
