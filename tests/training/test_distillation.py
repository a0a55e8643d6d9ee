"""Distillation: the loss and its gradient against what is worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.training import Training
from lib.training.distillation import soft_targets
from lib.training.fit import fit


def _softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_loss_and_gradient_are_those_of_the_definition(temperature: float) -> None:
    student, teacher = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    student.requires_grad_()
    loss = soft_targets(student, teacher, temperature)
    loss.backward()
    q, p = (_softmax(z.detach().numpy() / temperature) for z in (student, teacher))
    assert loss.item() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum() / 6)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), temperature * (q - p) / 6, rtol=1e-9, atol=1e-12)


def test_a_large_temperature_leaves_the_gradient_its_size() -> None:
    """It tends to the difference of the centred logits, divided by classes and images (section 2.1 of the paper)."""
    student = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.double, requires_grad=True)
    teacher = torch.tensor([[0.5, 1.5, -2.0]], dtype=torch.double)
    soft_targets(student, teacher, 1000.0).backward()
    z, v = (one.detach() - one.detach().mean(1, keepdim=True) for one in (student, teacher))
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (z - v) / 3, rtol=1e-2, atol=1e-3)


def test_a_step_follows_labels_and_teacher_by_their_weights() -> None:
    """The gradient of a linear student's biases in the first step, over a batch of all images."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 4, 4, 3)).astype(np.uint8)
    images = Images(np.arange(12) % 3, ("a", "b", "c"), np.zeros(12, bool), lambda i: Image.fromarray(pixels[i]), "")

    def tensor(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255

    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(48, 3)) for _ in range(2))
    x = torch.stack([tensor(Image.fromarray(one)) for one in pixels])
    z, v = (network(x).detach().double().numpy() for network in (student, teacher))
    found: list[torch.Tensor] = []
    list(student.parameters())[1].register_hook(lambda gradient: found.append(gradient.clone()))
    how = {"epochs": 1, "batch_size": 12, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup": 0.0}
    settings = Training(**how, label_smoothing=0.0, distillation=0.3, temperature=3.0)
    (row,) = fit(student, Loader(images, np.arange(12), tensor, 12), settings, 0, teacher=teacher)

    q, p = _softmax(z / 3), _softmax(v / 3)
    labels = np.eye(3)[np.arange(12) % 3]
    expected = (0.7 * (_softmax(z) - labels) + 0.3 * 3 * (q - p)).sum(0) / 12
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-4, atol=1e-6)
    entropy, apart = -(labels * np.log(_softmax(z))).sum() / 12, 9 * (p * np.log(p / q)).sum() / 12
    assert row["loss"] == pytest.approx(0.7 * entropy + 0.3 * apart, rel=1e-5)
