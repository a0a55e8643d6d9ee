"""Maps from several networks' logits to the classes: against definitions, and on images that have not fitted them."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn import functional as F

from lib.fit import stacking
from lib.fit.stacking import Discriminants, stack


@pytest.fixture(scope="module")
def given() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two networks, the second of which has its classes in another order, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (400,), generator=generator)
    wanted = 2 * F.one_hot(labels, 4).float()
    noise = torch.randn(2, 400, 4, generator=generator)
    second = (wanted + noise[1]).roll(1, dims=1)
    return torch.stack([wanted + noise[0] + 30, 5 * second]), labels


def test_the_maps_are_where_the_loss_is_least(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Of cross-entropy and pull, at maps of centred logits, as another solver finds it; constants do not count."""
    logits, labels = given
    found = stack(logits, labels, 4)
    centred = logits.double() - logits.double().mean(2, keepdim=True)
    pull = 0.01 * centred.square().mean()
    start = torch.cat([(torch.eye(4, dtype=torch.float64) / 2 - 1 / 8).repeat(2, 1).flatten(), torch.zeros(4)])

    def loss(theta: torch.Tensor) -> torch.Tensor:
        maps = theta[:32].view(2, 4, 4)
        said = torch.einsum("tnc,tcd->nd", centred, maps) + theta[32:]
        return F.cross_entropy(said, labels) + pull * (theta[:32] - start[:32]).square().sum()

    best = start.double().clone().requires_grad_()
    peer = torch.optim.LBFGS(
        [best], max_iter=2000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> torch.Tensor:
        peer.zero_grad()
        value = loss(best)
        value.backward()
        return value

    peer.step(step)
    best.requires_grad_(False)
    own = torch.cat([found.maps.flatten(), found.offset])
    assert float(loss(best)) <= float(loss(own)) <= float(loss(best)) * (1 + 1e-4)
    assert float(loss(own)) < float(loss(start)) * 0.9
    said = torch.einsum("tnc,tcd->nd", centred, found.maps) + found.offset
    torch.testing.assert_close(found(logits), said.to(logits.dtype), atol=1e-4, rtol=1e-4)
    shifted = stack(logits + torch.tensor([[[7.0]], [[-2.0]]]), labels, 4)
    torch.testing.assert_close(shifted.maps, found.maps, atol=1e-2, rtol=1e-2)


def test_much_pull_leaves_the_mean(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = given
    said = stack(logits, labels, 1e8)(logits)
    mean = logits.mean(0)
    relative = said - said.mean(1, keepdim=True) - (mean - mean.mean(1, keepdim=True))
    assert float((relative - relative.mean(0)).abs().max()) < 1e-2


def test_the_pull_counts_the_less_the_more_images_there_are(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Images that are there twice weigh twice as much beside it."""
    logits, labels = given
    once, twice = stack(logits, labels, 4), stack(logits.repeat(1, 2, 1), labels.repeat(2), 8)
    torch.testing.assert_close(once.maps, twice.maps, atol=1e-2, rtol=1e-2)
    assert (once.ridge, twice.ridge) == (4 / 400, 8 / 800)
    start = torch.eye(4).double() / 2 - 1 / 8
    moved = [float((stack(logits[:, :n], labels[:n], 40).maps - start).norm()) for n in (40, 400)]
    assert moved[0] < moved[1]


def test_stacked_networks_are_better_on_images_that_have_not_fitted_them(
    given: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = given

    def right(said: torch.Tensor) -> float:
        return float((said.argmax(1) == labels).double().mean())

    alone, quick = stacking.out_of_fold(logits, labels, 2), Discriminants(list(logits), labels)
    assert right(alone) > right(logits.mean(0)) + 0.2
    assert quick.accuracy([0, 1]) == pytest.approx(100 * right(alone), abs=4)
    assert quick.accuracy([0, 1]) > max(quick.accuracy([0]), quick.accuracy([1]))
    first, second = stacking.folds(labels)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(400))
    assert (torch.bincount(labels[first]) - torch.bincount(labels[second])).abs().max() <= 1
    torch.testing.assert_close(alone[first], stack(logits[:, second], labels[second], 2)(logits[:, first]))
    noise = labels[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    guessed = stacking.out_of_fold(logits, noise, 2).argmax(1) == noise
    assert float(guessed.double().mean()) < 0.4


def test_the_quick_form_is_linear_discriminant_analysis(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    """As scikit-learn's, but for a little shrinkage, on both halves."""
    logits, labels = given
    features = (logits - logits.mean(2, keepdim=True)).transpose(0, 1).flatten(1).double().numpy()
    halves, right = [half.numpy() for half in stacking.folds(labels)], 0
    for own, others in (halves, halves[::-1]):
        peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3).fit(features[others], labels[others])
        right += int(np.equal(peer.predict(features[own]), labels[own].numpy()).sum())
    assert Discriminants(list(logits), labels).accuracy([0, 1]) == pytest.approx(right / 4, abs=0.5)


def test_a_class_without_images_does_not_stop_it(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = given
    few = labels != 3
    said = stacking.out_of_fold(logits[:, few], labels[few], 2)
    assert (said.argmax(1) != 3).all()
    assert not said.isnan().any()
    found = Discriminants(list(logits[:, few]), labels[few]).accuracy([0, 1])
    assert found == pytest.approx(100 * float((said.argmax(1) == labels[few]).double().mean()), abs=3)
