"""What a network costs: parameters, MACs (one MAC = two FLOPs) and activation memory, counted, never estimated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .duplicate import duplicate

BATCHES = (2, 3)  # two sizes tell what grows with the batch


@dataclass(frozen=True)
class Cost:
    """What a network or a part of one needs.

    params: number of parameters.
    macs: multiply-accumulates for one image.
    memory: most bytes of activations alive at once for one image, weights left out, the input, which its caller keeps
        alive, counted.

    Of parts that run one after another params and macs add up; memory is that of the part that needs most.
    """

    params: int = 0
    macs: int = 0
    memory: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs, max(self.memory, other.memory))

    @property
    def flops(self) -> int:
        """Floating-point operations for one image, two a MAC."""
        return 2 * self.macs

    def within(self, params: float | None = None, macs: float | None = None, memory: float | None = None) -> bool:
        """Whether all limits hold; None is no limit."""
        limits = ((self.params, params), (self.macs, macs), (self.memory, memory))
        return all(limit is None or value <= limit for value, limit in limits)


def _counted(cost: Cost) -> Cost:
    if min(cost.params, cost.macs, cost.memory) < 0 or max(cost.params, cost.macs, cost.memory) > 2**60:
        raise ValueError("should not be negative, nor beyond 2**60")
    return cost


Counted = Annotated[Cost, AfterValidator(_counted)]  # as JSON may hold it


def count(module: nn.Module, shape: tuple[int, ...] | torch.Size) -> Cost:
    """Cost of `module` in eval mode for one input of `shape` (without the batch dimension).

    Nothing is computed, unless control flow depends on the pixels: then a copy of the module runs on white images.
    """
    modes = {part: part.training for part in module.modules()}
    try:
        with without_data(module.eval()):
            return _count(module, shape)
    except RuntimeError as error:
        if "meta" not in str(error).lower() or any(parameter.is_meta for parameter in module.parameters()):
            raise
        with torch.no_grad():
            return _count(duplicate(module).cpu(), shape)
    finally:
        for part, mode in modes.items():
            part.training = mode


def _count(module: nn.Module, shape: tuple[int, ...] | torch.Size) -> Cost:
    flops = []
    for batch in BATCHES:
        with Flops() as counter:
            module(torch.ones(batch, *shape))
        flops.append(counter.read())
    with PeakMemory(module) as memory:
        module(torch.ones(1, *shape))
    return Cost(params(module), macs_of_one(flops[0], flops[1]), memory.read())


class Flops(FlopCounterMode):
    """Inside, counts floating-point operations."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self._before = 0

    def start(self) -> None:
        """Begins to count."""
        self._before = self.get_total_flops()

    def read(self) -> int:
        """Floating-point operations since `start`."""
        return int(self.get_total_flops()) - self._before


class PeakMemory(TorchDispatchMode):
    """Inside, counts bytes in tensors that operations have made.

    Views and in-place operations take nothing; the weights of `module` do not count.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._weights = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}

    def start(self) -> None:
        """Begins to count."""
        self._peak = self._bytes()

    def read(self) -> int:
        """Most bytes alive at once since `start`."""
        return self._peak

    def _bytes(self) -> int:
        self._alive = {key: (ref, size) for key, (ref, size) in self._alive.items() if not ref.expired()}
        return sum(size for _, size in self._alive.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._weights:
                    self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._peak = max(self._peak, self._bytes())
        return made


def macs_of_one(flops_of_two: int, flops_of_three: int) -> int:
    """MACs for one image: what grows with the batch, once, and what is done once for a batch of any size."""
    return (2 * flops_of_two - flops_of_three) // 2


@contextmanager
def without_data(module: nn.Module) -> Iterator[None]:
    """Inside, the weights of `module` are shapes without numbers, and so are new tensors."""
    places: list[dict[str, Any]] = [
        own for part in module.modules() for own in (part._parameters, part._buffers, vars(part))
    ]
    kept = [(own, name, tensor) for own in places for name, tensor in own.items() if isinstance(tensor, torch.Tensor)]
    shapes = {id(tensor): tensor.detach().to("meta") for _, _, tensor in kept}  # one that is shared stays one
    for own, name, tensor in kept:
        own[name] = shapes[id(tensor)]
    try:
        with torch.no_grad(), torch.device("meta"), _BatchNormByShape():
            yield
    finally:
        for own, name, tensor in kept:
            own[name] = tensor


class _BatchNormByShape(TorchFunctionMode):
    """Inside, a BatchNorm in eval mode is told from its shape: it gives what it is given.

    PyTorch's own way to tell it makes a mean and a deviation that are not made from data in eval mode, which would be
    counted as memory, and takes about half the time in which a CNN is traced.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm and not kwargs["training"]:
            entering, mean, *_ = args
            if mean is not None and mean.shape == entering.shape[1:2]:
                return torch.empty_like(entering)
        return func(*args, **(kwargs or {}))


def params(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
