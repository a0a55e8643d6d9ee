"""Whether a chain is its network: at every boundary and in the end, in eval and in train mode, bit for bit."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..base.errors import BrickyardError
from ..trace.graph import Trace
from ..trace.logits import logits
from ..trace.replay import Replay

if TYPE_CHECKING:
    from .chain import Chain

_TRAINING = 4  # images, at most, on which train mode is verified


@torch.no_grad()
def verify(chain: "Chain", model: nn.Module, trace: Trace, ends: Sequence[fx.Node], x: torch.Tensor) -> None:
    """Raises BrickyardError unless nodes and head give, for the images x [b, 3, h, w], exactly what the network gives:
    at every boundary and in the end, in eval mode, and in train mode for the same random numbers, with the same running
    statistics afterwards. The network is left as it was.

    model, trace: the chain's network, and its operations in eval mode; ends: the operations at its boundaries.
    """
    whole, nodes = chain[0 : len(chain)], [chain[i : i + 1] for i in range(len(chain))]
    modules = (model, whole, chain.head, *nodes)
    with _kept(*modules):
        for module in modules:
            module.eval()
        expected = logits(model(x.clone()))
        inside = Replay(trace, x.clone()).at(ends[1:])
        last = x.clone()
        for node, part, other in zip(chain.nodes, nodes, inside, strict=True):
            last = part(last)
            _compare(chain.name, last, other, f"node {node.name} differs from what it is in the network")
        _compare(chain.name, chain.head(last), expected, "cut into nodes it differs from itself")
        again = logits(model(x.clone()))
        _compare(chain.name, again, expected, "answers the same images differently a second time")
    images = torch.cat([x, x.flip(-1)])[: max(2, min(len(x), _TRAINING))]
    both = (model, nn.Sequential(whole, chain.head))
    (expected, before), (found, own) = (_in_training(chain.name, model, forward, images) for forward in both)
    if not _same(found, expected):  # an auxiliary output, which nodes leave out, may have drawn random numbers between
        made = [_in_training(chain.name, model, forward, images, _EqualChance()) for forward in both]
        (expected, before), (found, own) = made
    _compare(chain.name, found, expected, "cut into nodes it differs from itself in train mode")
    used = {id(buffer) for module in modules[1:] for buffer in module.buffers()}  # not those of auxiliary outputs
    for name, buffer in model.named_buffers():
        if id(buffer) in used:
            what = f"cut into nodes it keeps other statistics in train mode ({name})"
            _compare(chain.name, own[name], before[name], what)


def _in_training(
    name: str, model: nn.Module, forward: nn.Module, x: torch.Tensor, chance: AbstractContextManager[Any] | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the network or its parts give in train mode, inside `chance`, and the network's buffers after that."""
    with _kept(model, forward), torch.random.fork_rng(devices=[]), chance or nullcontext():
        torch.manual_seed(0)
        try:
            made = logits(forward.train()(x.clone()))
        except Exception as error:  # whatever a network does in train mode with images that it takes in eval mode
            reason = " ".join(str(error).split())[:200]
            raise BrickyardError(f"{name}: fails in train mode ({type(error).__name__}: {reason})") from error
        return made, {own: buffer.clone() for own, buffer in model.named_buffers()}


class _EqualChance(TorchDispatchMode):
    """Inside, every operation draws the same random numbers, whichever were drawn before it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.manual_seed(0)
        return func(*args, **(kwargs or {}))


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Not-a-numbers are equal to themselves here."""
    return found.shape == expected.shape and torch.equal(found.nan_to_num(), expected.nan_to_num())


def _compare(name: str, found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    if not _same(found, expected):
        alike = found.shape == expected.shape
        by = f" by {float((found - expected).abs().max()):g}" if alike else ""
        raise BrickyardError(f"{name}: {what}{by}; leave it out")


@contextmanager
def _kept(*networks: nn.Module) -> Iterator[None]:
    """Afterwards weights, buffers and modes are what they were."""
    modules = [module for network in networks for module in network.modules()]
    modes = [(module, module.training) for module in modules]
    own = [(module._buffers, dict(module._buffers)) for module in modules]  # some give a buffer another tensor
    state = {
        id(tensor): (tensor, tensor.clone())
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    }
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffers, before in own:
            buffers.update(before)
        with torch.no_grad():
            for tensor, before in state.values():
                tensor.copy_(before)
