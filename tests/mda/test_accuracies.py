import pytest
import torch

from lib.mda import accuracies
from lib.network.scaling import Scaling
from tests.mda import pico


def test_logits() -> None:
    model, x = pico.plain(), pico.images(5)
    y = torch.arange(5)
    found, labels = accuracies.logits(model, [(x[:2], y[:2]), (x[2:], y[2:])])
    torch.testing.assert_close(found, model(x).detach(), atol=1e-6, rtol=0)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_component_beside_its_source() -> None:
    """Task = outputs 0 and 2; images of class 1 do not count. The source errs once towards class 1."""
    source = torch.tensor([[3.0, 5, 1], [3, 0, 1], [9, 1, 0], [0, 9, 1]])
    own = torch.tensor([[0.0, 1], [1, 0], [1, 0], [0, 1]])
    labels = torch.tensor([0, 0, 2, 1])
    found = accuracies.component(source, own, labels, [0, 2])["accuracy"]
    assert found["source_all"] == pytest.approx(100 / 3)
    assert found["source_restricted"] == pytest.approx(200 / 3)
    assert found["component"] == pytest.approx(100 / 3)


def test_single_class_is_measured_against_the_rest() -> None:
    source = torch.tensor([[5.0, 0], [4, 5], [4, 0]])
    found = accuracies.component(source, torch.tensor([[3.0], [2], [1]]), torch.tensor([0, 0, 1]), [0])["auroc"]
    assert found == {"source_all": 0.5, "source_restricted": 0.75, "component": 1.0}
    assert accuracies.auroc(torch.tensor([1.0]), torch.tensor([True])) is None


def test_assembly_beside_its_controls() -> None:
    logits = torch.tensor([[2.0, 1, 9], [1, 2, 0], [2, 1, 3]])
    sources = torch.tensor([[2.0, 1, 0], [2, 1, 0], [2, 1, 3]])
    labels = torch.tensor([0, 1, 2])
    found = accuracies.assembly(logits, sources, labels, [range(2), range(2, 3)], _times(1, 1, 0.1), _times(1, 9, 0.1))
    assert found == pytest.approx(
        {
            "unscaled": 200 / 3,
            "scaled": 200 / 3,
            "sources": 200 / 3,
            "sources_scaled": 100 / 3,
            "balanced": 200 / 3,
            "balanced_sources": 100 / 3,
            "mean_component": 100.0,
            "mean_source_restricted": 50.0,
        }
    )
    singles = [range(i, i + 1) for i in range(3)]
    assert (
        accuracies.assembly(logits, sources, labels, singles, _times(1, 1, 1), _times(1, 1, 1))["mean_component"]
        is None
    )


def _times(*factors: float) -> Scaling:
    return Scaling(factors, (0.0,) * len(factors))
