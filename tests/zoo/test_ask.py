"""Accuracy and balanced accuracy."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from lib.training import fit
from lib.zoo import ask


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 70 + [1] * 20 + [4] * 6)  # classes 2 and 3 have no images
    answers = torch.where(torch.rand(96, generator=generator) < 0.6, labels, 0)
    expected = 100 * balanced_accuracy_score(labels.numpy(), answers.numpy())
    assert ask.balanced(answers == labels, labels) == pytest.approx(expected)


def test_both_are_measured_in_one_pass() -> None:
    model = nn.Linear(3, 3)
    batches = [(torch.randn(n, 3), torch.arange(n) % 3) for n in (8, 8, 3)]
    found = ask.of(model, batches)
    assert found.accuracy == fit.accuracy(model, batches)
    right = torch.cat([model(x).argmax(1) == y for x, y in batches])
    assert found.balanced == ask.balanced(right, torch.cat([y for _, y in batches]))
    always = nn.Linear(3, 2)
    always.bias.data = torch.tensor([100.0, 0.0])
    most = ask.of(always, [(torch.randn(10, 3), torch.tensor([0] * 9 + [1]))])
    assert (most.accuracy, most.balanced) == (90.0, 50.0)
