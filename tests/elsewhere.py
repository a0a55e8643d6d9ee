"""A device that is not there: its tensors say that they are on it, and are computed by the CPU, so that where results
come from is tested without a GPU. An operation that mixes it with the CPU is refused, as a real one would be. Without
gradients.
"""

from collections import Counter, defaultdict
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch._lazy.ts_backend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

torch._lazy.ts_backend.init()  # so that this kind of device has what indexing and gradients ask of a device
DEVICE = torch.device("lazy:0")

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default}  # torch takes their indices from the CPU


class There(torch.Tensor):
    """A tensor of the device; here: what it holds."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "There":
        make: Any = torch.Tensor._make_wrapper_subclass
        size, strides, offset = here.size(), here.stride(), here.storage_offset()
        made = make(cls, size, strides=strides, storage_offset=offset, dtype=here.dtype, device=DEVICE)
        made.here = here
        return made

    __torch_function__: Any = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with Elsewhere():
            return func(*args, **(kwargs or {}))


class Elsewhere(TorchDispatchMode):
    """Inside, the device can be named; ran: how often each operation ran there, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = Counter[str]()

    def __enter__(self) -> "Elsewhere":
        _lift_first(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _lift_first(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, There)]
        if there and func not in MOVES | INDEXED:
            mixed = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim]
            if mixed:
                raise RuntimeError(f"{func} mixes the device with the CPU: {[tuple(one.shape) for one in tensors]}")
        wanted = kwargs.get("device")
        result = bool(there) if wanted is None else torch.device(wanted).type == DEVICE.type
        if wanted is not None and result:
            kwargs["device"] = torch.device("cpu")
        found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
        if not result:
            return args[0] if func is aten.copy_.default else found
        self.ran[func.overloadpacket.__name__] += 1
        same = {id(tensor.here): tensor for tensor in there}
        return tree_map(lambda value: same.get(id(value), _there(value)), found)


class Real(AbstractContextManager["Real"]):
    """The same for a real device, whose operations nobody counts: for all that is known here, they ran there."""

    def __init__(self) -> None:
        self.ran: defaultdict[str, int] = defaultdict(lambda: 1)

    def __exit__(self, *error: Any) -> None:
        pass


def _lift_first(yes: bool) -> None:
    """Whether torch.tensor makes a tensor on the CPU and then moves it, where it is seen to do so."""
    torch._C._set_only_lift_cpu_tensors(yes)  # pyright: ignore[reportAttributeAccessIssue]


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, torch.Tensor) and not isinstance(value, There) else value
