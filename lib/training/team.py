"""The processes that train one network: how a batch is divided among them, and how they agree. One alone does all of it
without a word to anybody.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from ..base import processes
from ..trace.logits import logits

T = TypeVar("T")
Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Division:
    """What a process sees of a batch.

    rows: of the batch, ascending.
    parts: the micro-batches, as places in `rows`, each with the weight of its mean loss: the loss of the batch is the
        mean over processes of the sums of these.
    whole: whether every process sees all of it, since there is too little to divide.
    """

    rows: Int64[np.ndarray, " own"]
    parts: tuple[tuple[Int64[np.ndarray, " part"], float], ...]
    whole: bool


def divide(n: int, parts: int, rank: int = 0, count: int = 1) -> Division:
    """A batch of n images into `parts` micro-batches (fewer, rather than one of a single image), each of them among
    `count` processes.

    Images that mixup and CutMix mix, i and n - 1 - i, stay together, so that a process mixes what one alone would.
    """
    pairs = np.arange((n + 1) // 2)[::-1]  # the middle of an odd number, which is alone, with others
    micro = np.array_split(pairs, max(1, min(parts, n // 2)))
    whole = min(len(part) for part in micro) < count
    own = micro if whole else [np.array_split(part, count)[rank] for part in micro]
    both = [np.unique(np.concatenate([part, n - 1 - part])) for part in own]
    rows = np.sort(np.concatenate(both))
    among = 1 if whole else count
    return Division(rows, tuple((np.searchsorted(rows, part), len(part) * among / n) for part in both), whole)


class Team:
    """One process alone."""

    rank, count = 0, 1

    def forward(self, model: nn.Module) -> Forward:
        """The logits of `model`; the gradients of parameters that learn are then the means over processes."""
        return lambda x: logits(model(x))

    def apart(self, forward: Forward) -> AbstractContextManager[Any]:
        """Inside, gradients are summed up but not yet averaged."""
        return nullcontext()

    def normalised(self, division: Division) -> AbstractContextManager[Any]:
        """Inside, BatchNorms see the images of all processes."""
        return nullcontext()

    def mean(self, value: torch.Tensor) -> float:
        """Of a number each."""
        return value.item()

    def gathered(self, value: T) -> list[T]:
        """Each one's, by rank."""
        return [value]

    def told(self, value: T) -> T:
        """The first one's."""
        return value

    def even(self, model: nn.Module) -> None:
        """Gives all of them the first one's buffers."""

    def release(self) -> None:
        """Ends what `forward` has begun."""


class _Several(Team):
    """Some processes, which Hugging Face's Accelerate joins by DistributedDataParallel: over NCCL where `device` is a
    GPU, else over gloo. In all but the first, random numbers (dropout) start from `seed` and the rank.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else Accelerate chooses others
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        from .norms import Synchronised

        how = DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu", kwargs_handlers=[how])
        self._synchronised = Synchronised
        self.rank, self.count = processes.rank(), processes.count()
        if self.rank > 0:
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    def forward(self, model: nn.Module) -> Forward:
        return self._accelerator.prepare_model(_Logits(model))

    def apart(self, forward: Forward) -> AbstractContextManager[Any]:
        return self._accelerator.no_sync(forward)

    def normalised(self, division: Division) -> AbstractContextManager[Any]:
        return nullcontext() if division.whole else self._synchronised()

    def mean(self, value: torch.Tensor) -> float:
        reduced: Any = self._accelerator.reduce(value, "mean")
        return reduced.item()

    def gathered(self, value: T) -> list[T]:
        from accelerate.utils import gather_object

        return gather_object([value])

    def told(self, value: T) -> T:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def even(self, model: nn.Module) -> None:
        from accelerate.utils import broadcast

        with torch.no_grad():
            for buffer in model.buffers():
                broadcast(buffer)

    def release(self) -> None:
        self._accelerator.free_memory()


class _Logits(nn.Module):
    """Nothing but the logits, so that what else a network says is no part of the loss, and DDP sees that.

    A parameter is idle always, else DDP would warn of networks that have none which are.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.idle = model, nn.Parameter(torch.zeros(1, device=next(model.parameters()).device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return logits(self.model(x))


def team(device: torch.device, seed: int) -> Team:
    """Those that this process is one of."""
    return _Several(device, seed) if processes.count() > 1 else Team()
