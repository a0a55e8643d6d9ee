"""Every index against its definition in float64, and where the definition ends."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from lib.base.errors import BrickyardError
from lib.dery.similarity import gram, hsic, indices
from lib.dery.similarity.index import find
from lib.dery.similarity.layers import minibatches
from lib.dery.similarity.matrix import matrix
from lib.params.similarity import Similarity
from tests.dery.similarity import naive
from tests.dery.similarity.naive import (
    DEFINITIONS,
    linear,
    minibatch_cka,
    network,
    normalised,
    params,
    table,
    zoo,
)

MEMORY = 2**30
KERNELS = ["cka", "cka_debiased", "cka_rbf"]


@pytest.mark.parametrize("index", DEFINITIONS)
@pytest.mark.parametrize("n", [50, 300])
def test_equals_the_definition(index: str, n: int) -> None:
    networks = zoo(n, (3, 17, 30), (5, 40))
    found = matrix(networks, params(index), MEMORY)
    assert found.dtype == torch.float64
    assert torch.equal(found, found.T)
    assert np.abs(found.numpy() - table(networks, DEFINITIONS[index])).max() < 2e-6


def test_every_index_has_a_module_and_a_definition() -> None:
    names = get_args(Similarity.model_fields["index"].annotation)
    assert set(names) == {file.stem for file in Path(indices.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(names) == set(DEFINITIONS)
    for name in names:
        assert set(find(name).READS) < set(Similarity.model_fields)


@pytest.mark.parametrize("index", ["cka", "cka_debiased"])
@pytest.mark.parametrize("prefers_gram", [False, True])
def test_both_forms_equal_the_definition(index: str, prefers_gram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hsic, "prefers_gram", lambda *_: prefers_gram)
    for networks in (zoo(40, (3, 200), (1500, 7)), zoo(700, (6, 9), (12,))):
        found = matrix(networks, params(index), MEMORY)
        assert np.abs(found.numpy() - table(networks, DEFINITIONS[index])).max() < 2e-6


def test_the_cheaper_form_follows_the_shapes() -> None:
    assert not hsic.prefers_gram(2048, [64] * 20, [64] * 20)
    assert hsic.prefers_gram(512, [16384] * 20, [16384] * 20)
    assert hsic.prefers_gram(64, [64] * 20, [64] * 20)


@pytest.mark.parametrize("n", [100, 101, 64])
def test_minibatches_average_the_unbiased_hsic(n: int) -> None:
    networks = zoo(n, (4, 60), (9,))
    parts = list(minibatches(n, 32))
    assert [part.stop - part.start for part in parts] == {100: [25] * 4, 101: [25, 25, 25, 26], 64: [32, 32]}[n]
    found = matrix(networks, params("cka_debiased", batch_images=32), MEMORY).numpy()
    assert np.abs(found - table(networks, lambda x, y: minibatch_cka(x, y, parts))).max() < 2e-6


def test_one_minibatch_is_all_at_once() -> None:
    networks = zoo(40, (4, 60))
    whole = matrix(networks, params("cka_debiased"), MEMORY)
    assert torch.equal(whole, matrix(networks, params("cka_debiased", batch_images=40), MEMORY))


def test_minibatches_of_another_index_are_refused() -> None:
    with pytest.raises(ValueError, match="set index to cka_debiased"):
        params("cka", batch_images=32)


@pytest.mark.parametrize("index", DEFINITIONS)
def test_a_constant_layer_is_similar_to_itself_alone(index: str) -> None:
    """0.1 has a mean that is not 0.1 exactly: rounding errors must not pass for activations."""
    x = torch.randn(40, 6)
    networks = [network("a", torch.full((40, 4), 0.1), x), network("b", torch.zeros(40, 9), torch.full((40, 4), 0.1))]
    found = matrix(networks, params(index), MEMORY)
    assert found.tolist() == torch.eye(4).tolist()


@pytest.mark.parametrize("index", DEFINITIONS)
def test_images_that_occur_twice_are_as_good_as_others(index: str) -> None:
    networks = [
        network(net.name, *(torch.cat([layer, layer[:30]]) for layer in net.layers)) for net in zoo(60, (3, 12), (8,))
    ]
    found = matrix(networks, params(index), MEMORY)
    assert np.abs(found.numpy() - table(networks, DEFINITIONS[index])).max() < 2e-6


def test_rbf_with_mostly_one_image_takes_the_median_of_what_differs() -> None:
    """39 of 40 images are one and the same: K is 1 but for the last row, whatever the layer."""
    x, y = torch.zeros(40, 3), torch.zeros(40, 5)
    x[-1], y[-1] = 1, torch.arange(5.0)
    assert abs(float(matrix([network("a", x, y)], params("cka_rbf"), MEMORY)[0, 1]) - 1) < 1e-6


@pytest.mark.parametrize("index", KERNELS)
def test_rotation_scale_and_shift_change_nothing(index: str) -> None:
    x = torch.randn(60, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8))[0]
    found = matrix([network("a", x, 3 * x @ rotation + 1, torch.randn(60, 8))], params(index), MEMORY)
    assert abs(float(found[0, 1]) - 1) < 1e-6
    assert abs(float(found[0, 2])) < 0.9


@pytest.mark.parametrize("index", ["lr", "cca", "svcca"])
def test_any_linear_map_changes_nothing(index: str) -> None:
    x = torch.randn(60, 8)
    found = matrix([network("a", x, x @ torch.randn(8, 8) + 2)], params(index, variance=1.0), MEMORY)
    assert abs(float(found[0, 1]) - 1) < 1e-5


def test_debiased_needs_four_images() -> None:
    with pytest.raises(BrickyardError, match=r"cka_debiased needs at least 4 images, not 3"):
        matrix(zoo(3, (5,)), params("cka_debiased"), MEMORY)
    assert torch.isfinite(matrix(zoo(4, (5, 6)), params("cka_debiased"), MEMORY)).all()


@pytest.mark.parametrize("index", DEFINITIONS)
def test_one_image_is_too_few(index: str) -> None:
    with pytest.raises(BrickyardError, match="needs at least"):
        matrix(zoo(1, (5,)), params(index), MEMORY)


@pytest.mark.parametrize("index", ["lr", "cca"])
def test_a_basis_of_everything_is_refused_by_name(index: str) -> None:
    with pytest.raises(BrickyardError, match=rf"index = {index}: 20 images are too few for node node1 of net0"):
        matrix(zoo(20, (3, 30)), params(index), MEMORY)


def test_equidistant_images_have_nothing_to_compare_without_bias() -> None:
    """The U-centred kernel of equidistant images is 0: rounding errors must not pass for similarity."""
    networks = [network("a", torch.eye(12), torch.randn(12, 4)), network("b", 7 * torch.eye(12).flip(0))]
    found = matrix(networks, params("cka_debiased"), MEMORY)
    assert found.tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("prefers_gram", [False, True])
def test_one_active_image_is_nothing_without_bias(prefers_gram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its U-centred kernel is 0, too."""
    monkeypatch.setattr(hsic, "prefers_gram", lambda *_: prefers_gram)
    x = torch.zeros(80, 5)
    x[17] = torch.rand(5)
    found = matrix([network("a", x, torch.randn(80, 4)), network("b", 7 * x)], params("cka_debiased"), MEMORY)
    assert found.tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_are_compared_as_float32(dtype: torch.dtype) -> None:
    narrow = [network(net.name, *(layer.to(dtype) for layer in net.layers)) for net in zoo(50, (3, 30), (5,))]
    wide = [network(net.name, *(layer.float() for layer in net.layers)) for net in narrow]
    for index in DEFINITIONS:
        assert torch.equal(matrix(narrow, params(index), MEMORY), matrix(wide, params(index), MEMORY))


def test_large_means_and_scales_cost_no_digit() -> None:
    x, y = torch.randn(300, 20), torch.randn(300, 30)
    far = [network("a", 1e8 * (x + 100), 1e-12 * y), network("b", x + 3000)]
    expected = table(far, lambda a, b: normalised(naive.hsic, linear(a - a.mean(0)), linear(b - b.mean(0))))
    for memory in (MEMORY, 1):
        assert np.abs(matrix(far, params("cka"), memory).numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("prefers_gram", [False, True])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_activations_beyond_float32_are_refused(
    scale: float, prefers_gram: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hsic, "prefers_gram", lambda *_: prefers_gram)
    networks = [network("far", scale * torch.randn(40, 5), torch.randn(40, 3))]
    with pytest.raises(BrickyardError, match="activations of node node0 of far are too large or too small"):
        matrix(networks, params("cka"), MEMORY)


@pytest.mark.slow
@pytest.mark.parametrize("index", ["cka", "cka_debiased"])
@pytest.mark.parametrize("prefers_gram", [False, True])
def test_eight_thousand_images(index: str, prefers_gram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of sums over n^2 entries do not grow with n."""
    monkeypatch.setattr(hsic, "prefers_gram", lambda *_: prefers_gram)
    networks = zoo(8192, (16, 32, 64), (16, 64))
    found = matrix(networks, params(index), MEMORY).numpy()

    def by_features(x: np.ndarray, y: np.ndarray) -> float:
        x, y = x - x.mean(0), y - y.mean(0)
        q, p, n = (x**2).sum(1), (y**2).sum(1), len(x)
        product = ((x.T @ y) ** 2).sum()
        if index == "cka":
            return float(product)
        return float(product - n / (n - 2) * q @ p + q.sum() * p.sum() / ((n - 1) * (n - 2)))

    expected = table(networks, lambda x, y: by_features(x, y) / np.sqrt(by_features(x, x) * by_features(y, y)))
    assert np.abs(found - expected).max() < 1e-5


def test_blocks_cover_the_upper_half() -> None:
    covered = torch.zeros(700, 700)
    for r, c in gram.blocks(700):
        covered[r, c] += 1
    assert torch.equal(torch.maximum(covered, covered.T), torch.ones(700, 700))
    assert covered.max() == 1
