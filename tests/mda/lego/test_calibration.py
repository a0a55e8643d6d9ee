import pytest
import torch
from torch.nn import functional as F

from lib.mda.lego import calibration

SPANS = [range(2), range(2, 5)]


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Two components on images of all five classes; the second shouts ten times louder."""
    labels = torch.arange(5).repeat(40)
    logits = 2.0 * F.one_hot(labels, 5) + torch.randn(200, 5)
    logits[:, 2:] *= 10
    return logits, labels


def _objective(logits: torch.Tensor, labels: torch.Tensor, theta: torch.Tensor, ridge: float) -> float:
    distance = ((theta[0] - 1) ** 2).sum() + (theta[1] ** 2).sum()
    return float(F.cross_entropy(logits.double() * theta[0] + theta[1], labels) + ridge * distance)


def test_temperatures_are_the_best_of_a_grid(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    found = calibration.convex(logits, labels, SPANS, "temperature", 1e-3)
    a, b = found.factors[0], found.factors[2]
    assert found.factors == (a, a, b, b, b)
    assert found.offsets == (0.0,) * 5
    assert a > 5 * b > 0

    def at(a: float, b: float) -> float:
        scale = torch.tensor([a, a, b, b, b]).double()
        shared = 1e-3 * ((a - 1) ** 2 + (b - 1) ** 2)
        return float(F.cross_entropy(logits.double() * scale, labels)) + shared

    best = min((at(i / 20, j / 200), i / 20, j / 200) for i in range(60) for j in range(60))
    assert at(a, b) <= best[0]
    assert (a, b) == pytest.approx(best[1:], abs=0.05)


def test_affine_is_a_stationary_point_and_the_same_again(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    found = calibration.convex(logits, labels, SPANS, "affine", 1e-3)
    theta = torch.tensor([found.factors, found.offsets], dtype=torch.float64)
    here = _objective(logits, labels, theta, 1e-3)
    for _ in range(50):
        assert here <= _objective(logits, labels, theta + 1e-3 * torch.randn(2, 5), 1e-3)
    assert found == calibration.convex(logits, labels, SPANS, "affine", 1e-3)


def test_comparable_answers_are_more_often_right(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = answers
    right = {
        method: float(
            (calibration.fit(method, logits, labels, SPANS, 1e-3)(logits).argmax(1) == labels).double().mean()
        )
        for method in ("none", "winning_score", "temperature", "affine")
    }
    assert right["none"] < 0.6 < min(right["winning_score"], right["temperature"], right["affine"])
    assert calibration.fit("winning_score", logits, labels, SPANS, 1e-3) == calibration.winning_score(
        logits, labels, SPANS
    )


def test_separable_images_and_a_component_that_is_always_wrong() -> None:
    """The pull keeps factors finite; one that could only do harm goes to zero, not below."""
    labels = torch.tensor([0, 1, 2, 3])
    logits = torch.eye(4) * 3
    logits[:, 2:] *= -1
    found = calibration.convex(logits, labels, [range(2), range(2, 4)], "temperature", 1e-3)
    assert 1 < found.factors[0] < 100
    assert found.factors[2] == 0


def test_winning_scores_by_hand() -> None:
    """Class 0 wins with 4 and 2, loses its third image; class 1 never wins; class 2 wins with -1."""
    logits = torch.tensor([[4.0, 1, 0], [2, 1, 0], [0, 1, 0], [5, 1, 0], [-3, -2, -1]])
    labels = torch.tensor([0, 0, 0, 1, 2])
    assert calibration.winning_scores(logits, labels) == [3.0, None, -1.0]


def test_factors_are_reciprocals() -> None:
    assert calibration.factors([2.0, 4.0]) == [0.5, 0.25]


def test_classes_without_a_positive_score_take_their_components_mean() -> None:
    assert calibration.factors([2.0, None, 4.0, -1.0, 0.0]) == [0.5, 0.375, 0.25, 0.375, 0.375]
    assert calibration.factors([None, -2.0]) == [1.0, 1.0]


def test_components_are_scaled_by_their_own_answers() -> None:
    """The image of class 0 counts although component 2 shouts louder: each component answers for itself."""
    logits = torch.tensor([[4.0, 1, 90], [1, 2, 70], [0, 9, 50]])
    labels = torch.tensor([0, 1, 2])
    assert calibration.winning_score(logits, labels, [range(2), range(2, 3)]).factors == pytest.approx(
        [1 / 4, 1 / 2, 1 / 50]
    )
