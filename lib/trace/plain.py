"""Networks whose weights are made anew in each pass, with the weights that come out of it."""

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .duplicate import duplicate

M = TypeVar("M", bound=nn.Module)
_KINDS = (WeightNorm, SpectralNorm, BasePruningMethod)


def plain(model: M) -> M:
    """A copy of `model`, in eval mode, that gives the same: old and new weight_norm and spectral_norm, pruning masks
    and other parametrizations have been carried out once and for all.
    """
    copy = duplicate(model).eval()
    for module in list(copy.modules()):
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, _KINDS):
                hook.remove(module)
                del module._forward_pre_hooks[key]
        if parametrize.is_parametrized(module):
            module.__class__ = _own_class(type(module))
            parametrized: Any = module.parametrizations
            for name in list(parametrized):
                with torch.enable_grad():  # else it leaves a buffer
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return copy


def _own_class(shared: type[nn.Module]) -> type[nn.Module]:
    """The class that torch has made for one parametrized module, once more: it removes properties from the class, which
    a copy of the module shares.
    """
    made: Any = type(shared.__name__, shared.__bases__, {k: v for k, v in vars(shared).items() if k != "__weakref__"})
    return made


def kind(module: nn.Module) -> type[nn.Module]:
    """The class of a module, below its parametrizations."""
    return type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)


def is_hooked(module: nn.Module) -> bool:
    """Whether a module, or one inside, has hooks beyond those that make its weights."""
    return any(
        own._forward_hooks or any(not isinstance(hook, _KINDS) for hook in own._forward_pre_hooks.values())
        for own in module.modules()
    )
