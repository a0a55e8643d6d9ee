"""What becomes of a network that was drawn: taken apart, cut and repaired, against plain PyTorch, on numbers.

Every check runs on a network of its own, built anew, so that what one of them spoils does not reach another.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.faults.networks import Drawn
from lib import cost, graph
from lib.chain import Chain
from lib.channels import Coupling
from lib.coupling import couple
from lib.errors import BrickyardError
from lib.mda.cutting import Scales, cut, indices
from lib.mda.repair import repair

Outcome = Literal["right", "refused", "wrong", "traceback"]
ORDER: tuple[Outcome, ...] = ("right", "refused", "wrong", "traceback")
_SHARE = 0.5  # of the channels are kept
_EXACT = 1e-8  # relative, in double precision; _SINGLE: in single
_SINGLE = 1e-5
_REPAIRED = 1e-3  # relative, of a repair that has nothing to repair
_NAME = "drawn"


class Wrong(Exception):
    """A difference that nothing was said about."""


@dataclass(frozen=True)
class Verdict:
    """The worst outcome of all checks, and a line of text for it; by check: the outcome of each."""

    outcome: Outcome
    text: str
    checks: dict[str, Outcome]


def judge(drawn: Drawn) -> Verdict:
    """All checks of one network. They share nothing but its number."""
    worst: tuple[Outcome, str] = ("right", "")
    found: dict[str, Outcome] = {}
    for name, check in CHECKS.items():
        outcome, text = _tried(check, drawn)
        found[name] = outcome
        if ORDER.index(outcome) > ORDER.index(worst[0]):
            worst = outcome, f"{name}: {text}"
    return Verdict(*worst, found)


def _tried(check: Callable[[Drawn], None], drawn: Drawn) -> tuple[Outcome, str]:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            check(drawn)
        except Wrong as error:
            return "wrong", str(error)
        except BrickyardError as error:
            lines = len(str(error).splitlines())
            return ("refused", str(error)) if lines == 1 else ("wrong", f"{lines} lines: {error}")
        except Exception as error:  # what a user would see as a traceback
            return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "right", ""


@torch.no_grad()
def nodes(drawn: Drawn) -> None:
    """In eval mode nodes and head are the network, bit for bit, at every cut, copied or not; nothing is changed."""
    model, plain, x = drawn.build(), drawn.build(), drawn.images(2)
    expected = plain(x.clone())
    chain = Chain(_NAME, model, drawn.shape)
    _same_state(model, plain, "tracing")
    given = x.clone()
    chain.verify(given)
    _equal(given, x, "the images after verify")
    _same_state(model, plain, "verify")
    *_, last = chain.walk(x.clone())
    _equal(chain.head(last), expected, "nodes one after another")
    count = len(chain)
    for k in range(1, count):
        middle = chain[0:k](x.clone())
        rest = chain[k:count]
        _equal(chain.head(rest(middle.clone())), expected, f"cut at {k}")
        own = copy.deepcopy(chain[0:k])
        _equal(copy.deepcopy(rest)(own(x.clone())), rest(middle.clone()), f"copies, cut at {k}")
    _equal(model(x.clone()), expected, "the network afterwards")
    _same_state(model, plain, "running the nodes")


def costs(drawn: Drawn) -> None:
    """Counted anew, every part needs the parameters and MACs that its chain says, also where nodes share some."""
    model = drawn.build()
    chain = Chain(_NAME, model, drawn.shape)
    count = len(chain)
    for i in range(count):
        for j in range(i + 1, count + 1):
            said, counted = chain.cost(i, j), cost.count(chain[i:j], chain.layout(i).shape)
            if (said.params, said.macs) != (counted.params, counted.macs):
                raise Wrong(
                    f"nodes {i}:{j}: said {said.params} parameters, {said.macs} MACs; "
                    f"counted {counted.params}, {counted.macs}"
                )


def training(drawn: Drawn) -> None:
    """In train mode, with the same random numbers: answers, statistics and gradients."""
    plain, model, x = drawn.build().train(), drawn.build(), drawn.images(4)
    chain = Chain(_NAME, model, drawn.shape)
    chain.verify(x.clone())
    parts = [*(chain[i : i + 1] for i in range(len(chain))), chain.head]
    for part in parts:
        part.train()
    torch.manual_seed(1)
    expected = _first(plain(x.clone()))
    torch.manual_seed(1)
    found = x.clone()
    for part in parts:
        found = part(found)
    _equal(found, expected, "answers in train mode")
    _same_state(model, plain, "a step in train mode", buffers=True)
    try:
        expected.square().sum().backward()
    except RuntimeError:  # in-place operations that PyTorch itself cannot differentiate
        return
    found.square().sum().backward()
    for (name, own), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if (own.grad is None) != (other.grad is None):
            raise Wrong(f"the gradient of {name} is there on one side alone")
        if own.grad is not None and other.grad is not None:
            _near(own.grad, other.grad, 1e-5, f"the gradient of {name}")


@torch.no_grad()
def cut_nothing(drawn: Drawn) -> None:
    """With all channels kept a cut network is its source, and has its costs."""
    model, plain = drawn.build(), drawn.build()
    coupling = _coupling(model, drawn)
    _same_state(model, plain, "coupling")
    everything = frozenset(range(coupling.count))
    component = cut(model, indices(coupling, everything), drawn.shape)
    _same_state(model, plain, "cutting")
    found, expected, tolerance = _answers(component, plain, drawn)
    _near(found, expected, tolerance, "with all channels kept")
    if cost.params(component) != cost.params(plain):
        raise Wrong(f"with all channels kept {cost.params(component)} parameters of {cost.params(plain)}")


@torch.no_grad()
def cut_half(drawn: Drawn) -> None:
    """With half of the channels it is the source without the others; it costs what was said, trains, is cut again."""
    model, plain = drawn.build(), drawn.build()
    coupling = _coupling(model, drawn)
    chosen = some(coupling, drawn.seed)
    component = cut(model, indices(coupling, chosen), drawn.shape)
    silence(plain, coupling, chosen)
    found, expected, tolerance = _answers(copy.deepcopy(component), plain, drawn)
    rows = [i for i, channel in enumerate(coupling.classifier.outputs) if channel in chosen]
    _near(found, expected[:, rows], tolerance, "with half of the channels kept")
    counted, said = cost.count(component, drawn.shape), Scales(model, coupling).cost(chosen)
    if (counted.params, counted.macs) != (said.params, said.macs):
        raise Wrong(
            f"said {said.params} parameters, {said.macs} MACs; counted {counted.params}, {counted.macs} when cut"
        )
    again = {layer.name: len(layer.outputs) for layer in _coupling(component, drawn).layers}
    if again != {name: len(kept) for name, kept in indices(coupling, chosen).items()}:
        raise Wrong("what was cut has other layers when it is followed again")
    if not _first(component.train()(drawn.images(2))).isfinite().all():
        raise Wrong("not finite in train mode")


@torch.no_grad()
def repairs(drawn: Drawn) -> None:
    """Where nothing is missing repair changes nothing; where half is missing it does not make things worse."""
    x, new = drawn.images(64, 1), drawn.images(64, 2)
    expected = drawn.build()(new.clone())
    size = expected.abs().max()
    for half in (False, True):
        model = drawn.build()
        coupling = _coupling(model, drawn)
        outputs = coupling.classifier.outputs
        chosen = some(coupling, drawn.seed) | set(outputs) if half else frozenset(range(coupling.count))
        kept = indices(coupling, chosen)
        component = cut(model, kept, drawn.shape)
        given = x.clone()
        repaired = repair(model, component, kept, given, "ridge", classifier="logits")
        _equal(given, x, "the images after repair")
        _same_state(model, drawn.build(), "repair")
        found = repaired(new.clone())
        if not found.isfinite().all():
            raise Wrong("repaired, its answers are not finite")
        before, after = ((network(new.clone()) - expected).square().mean().sqrt() for network in (component, repaired))
        if half and after > 2 * before and after > _REPAIRED * size:
            raise Wrong(f"repair of a half makes it worse: {float(before / size):.3g} -> {float(after / size):.3g}")
        if not half and after > _REPAIRED * size:
            raise Wrong(f"repair of all channels changes it by {float(after / size):.3g}")


CHECKS: dict[str, Callable[[Drawn], None]] = {
    "nodes": nodes,
    "costs": costs,
    "training": training,
    "cut_nothing": cut_nothing,
    "cut_half": cut_half,
    "repairs": repairs,
}


def some(coupling: Coupling, seed: int) -> frozenset[int]:
    """A random half of every stream's channels, at least one, and what cannot be taken out."""
    generator = torch.Generator().manual_seed(seed)
    chosen = set(coupling.fixed)
    for stream in coupling.streams:
        count = max(1, round(_SHARE * len(stream)))
        chosen |= {stream[i] for i in torch.randperm(len(stream), generator=generator)[:count]}
    return frozenset(chosen)


def silence(model: nn.Module, coupling: Coupling, chosen: frozenset[int]) -> None:
    """From now on no layer of `model` sees channels that are not chosen: they read as zeros."""
    for layer in coupling.layers:
        keep = torch.tensor([float(c in chosen) for c in layer.inputs]).repeat_interleave(layer.positions)

        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], keep: torch.Tensor = keep) -> tuple[torch.Tensor]:
            return (given[0] * keep.view(1, -1, *[1] * (given[0].ndim - 2)).to(given[0].dtype),)

        model.get_submodule(layer.name).register_forward_pre_hook(hook)


def _coupling(model: nn.Module, drawn: Drawn) -> Coupling:
    return couple(graph.trace(model, _NAME, drawn.shape), _NAME)


def _answers(found: nn.Module, expected: nn.Module, drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Answers of two networks and how far they may be apart, relatively: in double precision, where the order of a sum
    does not matter, unless the network itself names a precision.
    """
    x = drawn.images(4, 3).double()
    try:
        wanted = expected.double()(x.clone())
    except RuntimeError:
        x = x.float()
        return found(x.clone()), expected.float()(x.clone()), _SINGLE
    return found.double()(x.clone()), wanted, _EXACT


def _same_state(model: nn.Module, plain: nn.Module, what: str, buffers: bool = False) -> None:
    """buffers: those of auxiliary classifiers and of power iterations go on in a forward, and are compared alone."""
    own, other = model.state_dict(), plain.state_dict()
    if set(own) != set(other):
        raise Wrong(f"{what} changes which weights there are: {sorted(set(own) ^ set(other))[:3]}")
    for name, tensor in own.items():
        same = torch.equal(tensor, other[name]) or (
            buffers and torch.allclose(tensor.double(), other[name].double(), rtol=1e-5, atol=1e-6)
        )
        if not same:
            raise Wrong(f"{what} changes {name}")
    if not buffers:
        modes = [name for name, module in model.named_modules() if module.training]
        if modes:
            raise Wrong(f"{what} leaves {modes[0] or 'the network'} in train mode")


def _equal(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    if found.shape != expected.shape or not torch.equal(found, expected):
        _near(found, expected, 0, what)


def _near(found: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str) -> None:
    if found.shape != expected.shape:
        raise Wrong(f"{what}: {list(found.shape)} instead of {list(expected.shape)}")
    size = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= tolerance * max(size, 1e-30):
        raise Wrong(f"{what}: off by {difference / max(size, 1e-30):.2g} of the largest")


def _first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else _first(next(iter(output)))
