"""What networks return."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.trace.logits import logits

LOGITS, OTHER = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 5)
Pair = namedtuple("Pair", "logits aux")


@dataclass
class Answer:
    """As libraries of transformers have it."""

    loss: torch.Tensor | None
    logits: torch.Tensor


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, OTHER),
        [[LOGITS], OTHER],
        {"out": LOGITS, "aux": OTHER},
        OrderedDict(loss=None, logits=LOGITS),
        Pair(LOGITS, OTHER),
        Answer(None, LOGITS),
    ],
)
def test_the_first_tensor_is_the_logits(output: Any) -> None:
    assert logits(output) is LOGITS


@pytest.mark.parametrize("output", [None, 3, "logits", [], {}, ("logits", LOGITS), Answer])
def test_anything_else_is_refused_in_one_line(output: Any) -> None:
    with pytest.raises(BrickyardError, match=r"a network returned a .*; it should return logits, one tensor") as caught:
        logits(output)
    assert "\n" not in str(caught.value)
