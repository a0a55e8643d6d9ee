import pytest
import torch
from torch import nn

from lib.mda.lego import scaling


def test_winning_scores_by_hand() -> None:
    """Class 0 wins with 4 and 2, loses its third image; class 1 never wins; class 2 wins with -1."""
    logits = torch.tensor([[4.0, 1, 0], [2, 1, 0], [0, 1, 0], [5, 1, 0], [-3, -2, -1]])
    labels = torch.tensor([0, 0, 0, 1, 2])
    assert scaling.winning_scores(logits, labels) == [3.0, None, -1.0]


def test_factors_are_reciprocals() -> None:
    assert scaling.factors([2.0, 4.0]) == [0.5, 0.25]


def test_classes_without_a_positive_score_take_their_components_mean() -> None:
    assert scaling.factors([2.0, None, 4.0, -1.0, 0.0]) == [0.5, 0.375, 0.25, 0.375, 0.375]
    assert scaling.factors([None, -2.0]) == [1.0, 1.0]


def test_components_are_scaled_by_their_own_answers() -> None:
    """The image of class 0 counts although component 2 shouts louder: each component answers for itself."""
    logits = torch.tensor([[4.0, 1, 90], [1, 2, 70], [0, 9, 50]])
    labels = torch.tensor([0, 1, 2])
    assert scaling.winning_score(logits, labels, [range(2), range(2, 3)]).factors == pytest.approx(
        [1 / 4, 1 / 2, 1 / 50]
    )


def test_fold() -> None:
    by = scaling.Scaling((1.0, 0.5, 3.0), (0.0, 2.0, -1.0))
    for layer in (nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.Conv2d(4, 3, 1)):
        x = torch.randn(5, 4) if isinstance(layer, nn.Linear) else torch.randn(5, 4, 1, 1)
        expected = by(layer(x).flatten(1))
        scaling.fold(layer, by)
        torch.testing.assert_close(layer(x).flatten(1), expected)


def test_one_scaling_after_another() -> None:
    first, later = scaling.Scaling((2.0, 3.0), (1.0, 0.0)), scaling.Scaling((0.5, -1.0), (0.0, 4.0))
    logits = torch.randn(3, 2)
    torch.testing.assert_close(first.then(later)(logits), later(first(logits)))
