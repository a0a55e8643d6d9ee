"""Heads in closed form are what they claim: ridge regression and LDA, in one pass, whatever the batches."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.chain.layout import Layout
from lib.dery.assembly import heads
from lib.dery.assembly.heads import HeadEquations, Method, fit_head

METHODS: tuple[Method, ...] = ("ridge", "lda")


def _clusters(noise: float, images: int = 300) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """Three classes of unequal size, features [n, 6, 2, 2]."""
    torch.manual_seed(0)
    y = torch.arange(images) % 7 % 3
    x = torch.randn(3, 6)[y][:, :, None, None] + noise * torch.randn(images, 6, 2, 2) + 5
    return Layout("nchw", 6, 2, 2), x, y


def _equations(x: torch.Tensor, y: torch.Tensor) -> HeadEquations:
    equations = HeadEquations(x.shape[1], 3)
    for rows in torch.arange(len(y)).split(64):
        equations.add(x[rows], y[rows])
    return equations


@pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.1, 1.0])
def test_lda_is_that_of_scikit_learn(shrinkage: float) -> None:
    layout, images, y = _clusters(2.0)
    x = layout.pool(images)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.double().numpy(), y.numpy())
    weight, bias = _equations(x, y).solve("lda", shrinkage)
    np.testing.assert_allclose(weight.numpy(), peer.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bias.numpy(), peer.intercept_, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shrinkage", [1e-6, 1e-3, 0.1])
def test_ridge_is_the_textbook_form_on_centred_data(shrinkage: float) -> None:
    layout, images, y = _clusters(2.0)
    x, targets = layout.pool(images).double(), F.one_hot(y, 3).double()
    centred = x - x.mean(0)
    penalty = shrinkage * (centred**2).sum(0).mean() * torch.eye(6)
    expected = torch.linalg.inv(centred.T @ centred + penalty) @ centred.T @ (targets - targets.mean(0))
    weight, bias = _equations(x, y).solve("ridge", shrinkage)
    torch.testing.assert_close(weight, expected.T)
    torch.testing.assert_close(bias, targets.mean(0) - x.mean(0) @ expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_separates_what_is_separable(method: Method) -> None:
    layout, x, y = _clusters(0.1)
    head = fit_head(layout, [(x[:100], y[:100]), (x[100:], y[100:])], 3, method, 1e-3)
    assert (head(x).argmax(1) == y).all()
    assert set(head.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_the_scale_of_a_head_has_the_least_cross_entropy(method: Method) -> None:
    layout, x, y = _clusters(3.0)
    logits = fit_head(layout, [(x, y)], 3, method, 1e-3)(x)
    low, least, high = (float(F.cross_entropy(s * logits, y)) for s in (0.95, 1.0, 1.05))
    assert least < low
    assert least < high


@torch.no_grad()
def test_the_sample_for_the_scale_is_bounded_and_random_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CALIBRATION", 20)
    samples = []
    for batch in (1, 7, 64, 1000):
        sample = heads._Sample(heads.CALIBRATION)
        for rows in torch.arange(1000).split(batch):
            sample.add(rows[:, None].float(), rows)
            assert sum(len(y) for _, y in sample._kept) <= 2 * heads.CALIBRATION + batch
        features, labels = sample.rows
        assert torch.equal(features[:, 0].long(), labels)
        samples.append(sorted(labels.tolist()))
    assert len(set(samples[0])) == 20
    assert all(sample == samples[0] for sample in samples)
    assert max(samples[0]) > 800
    assert min(samples[0]) < 200


def test_a_class_without_images_is_named() -> None:
    layout, x, y = _clusters(1.0)
    with pytest.raises(BrickyardError, match="needs images of every class; class 3 has none"):
        fit_head(layout, [(x, y)], 4, "lda", 1e-3)
