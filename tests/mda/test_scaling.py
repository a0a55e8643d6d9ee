import pytest
import torch

from lib.mda import scaling
from tests.mda import pico


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
    assert scaling.all_factors(logits, labels, [range(2), range(2, 3)]) == pytest.approx([1 / 4, 1 / 2, 1 / 50])


def test_scale() -> None:
    model, x = pico.plain(), pico.images()
    logits = model(x)
    scaled = scaling.scale(model, "9", [1.0, 0.5, 3.0])
    torch.testing.assert_close(scaled(x), logits * torch.tensor([1.0, 0.5, 3.0]))
    assert torch.equal(model(x), logits)
