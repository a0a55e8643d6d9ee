"""What becomes of a network that was drawn: taken apart, cut and repaired, against plain PyTorch, on numbers."""

import copy
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.faults.networks import Drawn
from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import Scales, cut, indices
from lib.mda.components.repair import repair
from lib.mda.contributions.contribution import contributions
from lib.params.components import Repair
from lib.trace import cost, graph
from studies.mda.materialised import materialised

Outcome = Literal["right", "refused", "wrong", "traceback"]
ORDER: tuple[Outcome, ...] = ("right", "refused", "wrong", "traceback")
_SHARE = 0.5  # of the channels are kept
_EXACT = 1e-6  # relative, in double precision, of weights that are made once, in single; _SINGLE: in single
_SINGLE = 1e-5
_SUMS = 1e-4  # relative, of sums over space in single precision
_REPAIRED = 1e-3  # relative, of a repair that has nothing to repair
_WORSE = 5e-3  # relative, of one whose few images say little
_IMAGES = 32  # that a repair sees
_SPANS = 5  # parts whose costs are counted
_NAME = "drawn"


class Wrong(Exception):
    """A difference that nothing was said about."""


@dataclass(frozen=True)
class Verdict:
    """The worst outcome of all checks, and a line of text for it; by check: the outcome of each."""

    outcome: Outcome
    text: str
    checks: dict[str, Outcome]


class Subject:
    """A network on trial. Tracing is what takes long: checks share a chain, or a coupling and what was cut, and each of
    the two has a network of its own, built anew, as has every comparison.
    """

    def __init__(self, drawn: Drawn):
        self.drawn = drawn
        self.traced, self.source = drawn.build(), drawn.build()

    @cached_property
    def chain(self) -> Chain:
        """Of `traced`; verified, as it is before anything is made of one."""
        chain = Chain(_NAME, self.traced, self.drawn.shape)
        x = self.drawn.images(2)
        given = x.clone()
        chain.verify(given)
        _equal(given, x, "the images after verify")
        _same_state(self.traced, self.drawn.build(), "tracing")
        return chain

    @cached_property
    def coupling(self) -> Coupling:
        """Of `source`."""
        found = _coupling(self.source, self.drawn)
        _same_state(self.source, self.drawn.build(), "coupling")
        return found

    @cached_property
    def half(self) -> frozenset[int]:
        """The channels that are kept."""
        return some(self.coupling, self.drawn.seed)

    @cached_property
    def whole(self) -> frozenset[int]:
        """All channels."""
        return frozenset(range(self.coupling.count))

    def component(self, chosen: frozenset[int]) -> nn.Module:
        """`source` with the chosen channels."""
        component = self._component(chosen)
        _same_state(self.source, self.drawn.build(), "cutting")
        return copy.deepcopy(component)

    def _component(self, chosen: frozenset[int]) -> nn.Module:
        if chosen not in self._made:
            self._made[chosen] = cut(self.source, indices(self.coupling, chosen), self.drawn.shape)
        return self._made[chosen]

    @cached_property
    def _made(self) -> dict[frozenset[int], nn.Module]:
        return {}


Check = Callable[[Subject], None]


def judge(drawn: Drawn) -> Verdict:
    """All checks of one network."""
    worst: tuple[Outcome, str] = ("right", "")
    found: dict[str, Outcome] = {}
    subject = Subject(drawn)
    for name, check in CHECKS.items():
        outcome, text = tried(check, subject)
        found[name] = outcome
        if ORDER.index(outcome) > ORDER.index(worst[0]):
            worst = outcome, f"{name}: {text}"
    return Verdict(*worst, found)


def tried(check: Check, subject: Subject) -> tuple[Outcome, str]:
    """How one check ends, and in which words."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            check(subject)
        except Wrong as error:
            return "wrong", str(error)
        except BrickyardError as error:
            lines = len(str(error).splitlines())
            return ("refused", str(error)) if lines == 1 else ("wrong", f"{lines} lines: {error}")
        except Exception as error:  # what a user would see as a traceback
            return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "right", ""


@torch.no_grad()
def nodes(s: Subject) -> None:
    """In eval mode nodes and head are the network, bit for bit, at every cut, copied or not; nothing is changed."""
    plain, x, chain = s.drawn.build(), s.drawn.images(2), s.chain
    expected = plain(x.clone())
    *_, last = chain.walk(x.clone())
    _equal(chain.head(last), expected, "nodes one after another")
    count = len(chain)
    for k in range(1, count):
        middle = chain[0:k](x.clone())
        rest = chain[k:count]
        _equal(chain.head(rest(middle.clone())), expected, f"cut at {k}")
        own = copy.deepcopy(chain[0:k])
        _equal(copy.deepcopy(rest)(own(x.clone())), rest(middle.clone()), f"copies, cut at {k}")
    _equal(s.traced(x.clone()), expected, "the network afterwards")
    _same_state(s.traced, plain, "running the nodes")


def costs(s: Subject) -> None:
    """Counted anew, every part needs the parameters and MACs that its chain says, also where nodes share some."""
    spans = list(combinations(range(len(s.chain) + 1), 2))
    for i, j in random.Random(s.drawn.seed).sample(spans, min(len(spans), _SPANS)):
        said, counted = s.chain.cost(i, j), cost.count(s.chain[i:j], s.chain.layout(i).shape)
        if (said.params, said.macs) != (counted.params, counted.macs):
            raise Wrong(
                f"nodes {i}:{j}: said {said.params} parameters, {said.macs} MACs; "
                f"counted {counted.params}, {counted.macs}"
            )


def training(s: Subject) -> None:
    """In train mode, with the same random numbers: answers, statistics and gradients."""
    plain, x, chain = s.drawn.build().train(), s.drawn.images(4), s.chain
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
    _same_state(s.traced, plain, "a step in train mode", training=True)
    try:
        expected.square().sum().backward()
    except RuntimeError:  # in-place operations that PyTorch itself cannot differentiate
        return
    found.square().sum().backward()
    for (name, own), other in zip(s.traced.named_parameters(), plain.parameters(), strict=True):
        if (own.grad is None) != (other.grad is None):
            raise Wrong(f"the gradient of {name} is there on one side alone")
        if own.grad is not None and other.grad is not None:
            _near(own.grad, other.grad, _SINGLE, f"the gradient of {name}")


@torch.no_grad()
def cut_nothing(s: Subject) -> None:
    """With all channels kept a cut network is its source, and has its costs."""
    component, plain = s.component(s.whole), s.drawn.build()
    counted, said = cost.params(component), Scales(s.source, s.coupling).cost(s.whole).params
    if counted != said:
        raise Wrong(f"with all channels kept: said {said} parameters, counted {counted}")
    found, expected, tolerance = _answers(component, plain, s.drawn)
    _near(found, expected, tolerance, "with all channels kept")


@torch.no_grad()
def cut_half(s: Subject) -> None:
    """With half of the channels it is the source without the others; it costs what was said, trains, is cut again."""
    component, plain = s.component(s.half), s.drawn.build()
    silence(plain, s.coupling, s.half)
    found, expected, tolerance = _answers(copy.deepcopy(component), plain, s.drawn)
    rows = _rows(s)
    _near(found, expected[:, rows], tolerance, "with half of the channels kept")
    counted, said = cost.count(component, s.drawn.shape), Scales(s.source, s.coupling).cost(s.half)
    if (counted.params, counted.macs) != (said.params, said.macs):
        raise Wrong(
            f"said {said.params} parameters, {said.macs} MACs; counted {counted.params}, {counted.macs} when cut"
        )
    again = {layer.name: len(layer.outputs) for layer in _coupling(component, s.drawn).layers}
    if again != {name: len(kept) for name, kept in indices(s.coupling, s.half).items()}:
        raise Wrong("what was cut has other layers when it is followed again")
    if not _first(component.train()(s.drawn.images(2))).isfinite().all():
        raise Wrong("not finite in train mode")


@torch.no_grad()
def scores(s: Subject) -> None:
    """Contributions are those of the definition, and the network and its images stay as they are."""
    layers = [layer for layer in s.coupling.layers if layer.groups == 1]
    x, y = s.drawn.images(3, 4), torch.zeros(3, dtype=torch.long)
    given = x.clone()
    found = contributions(s.source, layers, [(given, y)], order=s.coupling.memory_format)
    _equal(given, x, "the images after contributions")
    _same_state(s.source, s.drawn.build(), "contributions")
    for name, expected in materialised(s.drawn.build(), layers, [(given, y)]).items():
        if expected.any():
            _near(found[name], expected, _SUMS, f"contributions of {name}")


@torch.no_grad()
def repairs(s: Subject) -> None:
    """Where nothing is missing repair changes nothing; where half is missing it does not make things worse."""
    x, new = s.drawn.images(_IMAGES, 1), s.drawn.images(_IMAGES, 2)
    wanted = s.drawn.build()(new.clone())
    size = wanted.abs().max()
    for chosen, expected in ((s.whole, wanted), (s.half, wanted[:, _rows(s)])):
        component, given = s.component(chosen), x.clone()
        repaired = repair(s.source, component, indices(s.coupling, chosen), given, Repair(classifier="logits"))
        _equal(given, x, "the images after repair")
        _same_state(s.source, s.drawn.build(), "repair")
        found = repaired(new.clone())
        if not found.isfinite().all():
            raise Wrong("repaired, its answers are not finite")
        before, after = ((network(new.clone()) - expected).square().mean().sqrt() for network in (component, repaired))
        if chosen == s.whole and after > _REPAIRED * size:
            raise Wrong(f"repair of all channels changes it by {float(after / size):.3g}")
        if after > 2 * before and after > _WORSE * size:
            raise Wrong(f"repair of a half makes it worse: {float(before / size):.3g} -> {float(after / size):.3g}")


CHECKS: dict[str, Check] = {
    "nodes": nodes,
    "costs": costs,
    "training": training,
    "cut_nothing": cut_nothing,
    "cut_half": cut_half,
    "scores": scores,
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

        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], keep: torch.Tensor = keep) -> tuple[torch.Tensor]:
            last = isinstance(module, nn.Linear)
            seen = keep if last else keep.view(1, -1, *[1] * (given[0].ndim - 2))
            return (given[0] * seen.to(given[0].dtype),)

        model.get_submodule(layer.name).register_forward_pre_hook(hook)


def _rows(s: Subject) -> list[int]:
    """The logits that a half has."""
    return [i for i, channel in enumerate(s.coupling.classifier.outputs) if channel in s.half]


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


def _same_state(model: nn.Module, plain: nn.Module, what: str, training: bool = False) -> None:
    """training: whether a step in train mode has been made, after which statistics may differ in the last bit."""
    own, other = model.state_dict(), plain.state_dict()
    if set(own) != set(other):
        raise Wrong(f"{what} changes which weights there are: {sorted(set(own) ^ set(other))[:3]}")
    for name, tensor in own.items():
        same = torch.equal(tensor, other[name]) or (
            training and torch.allclose(tensor.double(), other[name].double(), rtol=1e-5, atol=1e-6)
        )
        if not same:
            raise Wrong(f"{what} changes {name}")
    if not training:
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
