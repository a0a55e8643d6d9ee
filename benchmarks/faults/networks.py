"""Tiny random CNNs, each drawn from a number: what the tracing, cutting and repairing of networks is tried on.

A network is Python text, as its user would have written it, so that one that fails can be read and run by itself.
Drawn are only networks that plain PyTorch runs in eval and in train mode, and whose answers depend on the images.
"""

import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from benchmarks.faults.grammar import CLASSES, Piece, Scope, Writing, layer
from benchmarks.faults.pieces import PIECES, pool
from lib.trace import cost

SHAPE = (3, 16, 16)
WEIGHTS: dict[str, float] = {
    # which pieces a stage is made of
    "piece:plain": 6, "piece:sequence": 3, "piece:residual": 7, "piece:dense": 3, "piece:inception": 3,
    "piece:doubled": 0.7, "piece:squeeze": 4, "piece:glu": 1.2, "piece:two_gates": 1.5, "piece:grouped": 1.2,
    "piece:depthwise": 2, "piece:split": 1.5, "piece:pixels": 0.3, "piece:resize": 0.7, "piece:pool": 2,
    "piece:dropout": 2, "piece:training": 1.2, "piece:scale": 2, "piece:written_into": 1, "piece:before_and_after": 1.2,
    "piece:sized": 1, "piece:memory": 0.7, "piece:unusual": 0.8,
    # forms of one thing
    "weights:plain": 60, "weights:weight_norm": 0.25, "weights:spectral_norm": 0.15, "weights:pruned": 0.2,
    "weights:new_weight_norm": 0.15, "weights:new_spectral_norm": 0.1,
    "norm:batch": 12, "norm:none": 4, "norm:without_affine": 0.8, "norm:without_statistics": 0.4, "norm:group": 1,
    "norm:instance": 0.7,
    "act:ReLU": 10, "act:ReLU6": 1, "act:LeakyReLU": 1, "act:SiLU": 2, "act:GELU": 1, "act:Hardswish": 1,
    "act:PReLU": 0.7, "act:Sigmoid": 0.2, "act:Tanh": 0.2,
    "relu:module": 4, "relu:module_inplace": 5, "relu:module_statement": 0.7, "relu:function": 4,
    "relu:function_inplace": 1, "relu:function_statement": 0.7, "relu:method": 0.7, "relu:method_inplace": 0.5,
    "relu:method_statement": 0.7, "relu:clamp": 0.4,
    "shortcut:identity": 4, "shortcut:conv": 3, "shortcut:padded": 1,
    "add:plain": 5, "add:inplace": 2, "add:inplace_statement": 1,
    "multiply:plain": 4, "multiply:inplace": 1.5, "multiply:inplace_statement": 1,
    "unusual:layer_norm": 1, "unusual:parameter_list": 1, "unusual:checkpoint": 0.5, "unusual:no_grad": 1,
    "unusual:autocast": 0.5, "unusual:made_in_forward": 1, "unusual:dict": 1, "unusual:sum": 1, "unusual:where": 1,
    "unusual:arithmetic": 1.5, "unusual:permuted": 0.7, "unusual:flip": 1, "unusual:mean_over_channels": 0.7,
    "images:none": 12, "images:scaled": 1, "images:buffers": 1, "images:in_place": 1, "images:in_place_item": 0.4,
    "head:mean": 5, "head:pool": 5, "head:maps": 1.5, "head:two": 2, "head:max": 0.7, "head:conv": 0.5,
    "form:own": 6, "form:sequential": 2, "form:list": 2,
    "signature:x": 12, "signature:kwargs": 0.5, "signature:args": 0.4, "signature:optional": 0.5,
    "signature:keyword": 0.5, "signature:none": 0.2,
    # chances
    "shared:conv": 0.05, "shared:weight": 0.06, "shared:norm": 0.05, "shared:act": 0.25, "shared:block": 0.12,
    "in-place:act": 0.4, "in-place:act_statement": 0.25, "preactivation": 0.25, "shuffle": 0.5, "block": 0.5,
    "hook:forward": 0.003, "hook:forward_in_place": 0.0015, "hook:before": 0.002,
    "hook:root_before": 0.02, "hook:root": 0.01, "frozen": 0.03, "auxiliary": 0.06,
}  # fmt: skip
_ATTEMPTS = 200
_MOST = 12_000  # parameters


@dataclass(frozen=True)
class Drawn:
    """A network: the number it was drawn from, its text, and the features that were written into it."""

    seed: int
    text: str
    features: frozenset[str]
    shape: tuple[int, ...] = SHAPE

    def build(self) -> nn.Module:
        """A new one, the same to the last bit each time; torch's random numbers go on as if nothing had been drawn."""
        space: dict[str, Any] = {"__name__": f"network{self.seed}"}
        exec(compile(_HEADER + self.text, f"<network {self.seed}>", "exec"), space)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):  # weight_norm is deprecated
            torch.manual_seed(self.seed)
            return _alive(space["Net"]()).eval()

    @cached_property
    def module(self) -> nn.Module:
        """One of them."""
        return self.build()

    def images(self, count: int, seed: int = 0) -> torch.Tensor:
        """Float [count, 3, 16, 16]: smooth, so that channels can stand in for one another."""
        generator = torch.Generator().manual_seed(seed)
        coarse, fine = (torch.randn(count, 3, size, size, generator=generator) for size in (4, SHAPE[1]))
        return nn.functional.interpolate(coarse, SHAPE[1:], mode="bicubic") + 0.2 * fine


_HEADER = """import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

"""


def draw(seed: int, weights: Mapping[str, float] = WEIGHTS) -> Drawn:
    """The network of a number; the same text and weights each time. weights: how often each feature is taken."""
    for attempt in range(_ATTEMPTS):
        writing = Writing(random.Random(f"network {seed} {attempt}"), weights)
        text = _net(writing)
        drawn = Drawn(seed, text, frozenset(writing.features))
        if _runs(drawn):
            return drawn
    raise AssertionError(f"no network of {_ATTEMPTS} from seed {seed} runs in PyTorch")


@torch.no_grad()
def _runs(drawn: Drawn) -> bool:
    """Whether PyTorch runs it in both modes, and its answers are finite, differ and are neither huge nor tiny."""
    x = drawn.images(4, seed=7)
    try:
        model = drawn.build()
        if cost.params(model) > _MOST:
            return False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            y = model(x.clone())
            again = model(x.clone())
            with torch.enable_grad():  # which forbids some changes of views
                model.train()(x[:2].clone())
    except Exception:  # whatever a text that makes no sense raises; a fault of the grammar would leave no networks
        return False
    spread = float(y.std(0).mean())
    return y.shape == (4, CLASSES) and torch.equal(y, again) and 1e-3 < spread < 1e3 and bool(y.isfinite().all())


@torch.no_grad()
def _alive(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters away from their neutral start, weights that keep the spread of what they get."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if getattr(module, "running_mean", None) is not None:
                module.get_buffer("running_mean").uniform_(-0.5, 0.5)
                module.get_buffer("running_var").uniform_(0.5, 2)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(0.1, 0.4)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "scale" not in name:
            parameter.mul_(2)
    return model


def _net(writing: Writing) -> str:
    """The text of a network."""
    s = Scope(writing, 3, SHAPE[1])
    form = writing.one("form")
    _images(s, writing.one("images"))
    stem = _inner(s, _stem) if form == "sequential" else ""
    if not stem:
        _stem(s)
    names = [stem] if stem else []
    middle = ""
    for _ in range(writing.random.choice((1, 1, 2, 2, 3, 3, 4, 5))):
        own = form != "own" or writing.chance("block")
        names += _stage(s, own, form)
        if not middle and form == "own" and writing.chance("auxiliary"):
            middle = s.name("middle")
            s.line(f"{middle} = x")
            s.init.append(f"self.auxiliary = nn.Linear({s.channels}, {CLASSES})")
    if form == "sequential":
        return _sequential(s, names)
    returned = _head(s, writing.one("head"))
    _root(s)
    if middle:
        s.line(f"x = {returned}")
        returned = "x"
        s.line("if self.training:", f"    return x, self.auxiliary({middle}.mean((2, 3)))")
    signature = {
        "x": "x", "kwargs": "x, **kwargs", "args": "x, *args", "optional": "x, mask=None, alpha: float = 1.0",
        "keyword": "x, *, return_features: bool = False", "none": "x=None",
    }[writing.one("signature")]  # fmt: skip
    if "return_features" in signature:
        s.lines.insert(len(s.lines) - 1, "if return_features:")
        s.lines.insert(len(s.lines) - 1, "    return x")
    elif "mask" in signature:
        s.lines.insert(0, "if mask is not None:")
        s.lines.insert(1, "    x = x * mask")
    return "\n".join([*writing.classes, s.written("Net", f"return {returned}", signature)])


def _stage(s: Scope, own: bool, form: str) -> list[str]:
    """One or two pieces, written into `s` or, if `own`, a class; such a class may be used several times."""

    def pieces(inner: Scope) -> None:
        for _ in range(s.random.choice((1, 1, 2))):
            PIECES[s.writing.one("piece")](inner)

    if not own:
        pieces(s)
        return []
    before = (s.channels, s.size)
    made = _inner(s, pieces)
    times = 1
    if before == (s.channels, s.size) and s.writing.chance("shared:block"):
        s.note("shared")
        times = s.random.randint(2, 3)
    if form == "sequential":
        name = s.name("block")
        s.init.append(f"{name} = {made}")
        return [name] * times
    name = s.module("block", made)
    if form == "list" and times > 1:
        blocks = s.module("blocks", f"nn.ModuleList([{', '.join([name] * times)}])")
        s.line(f"for block in {blocks}:", "    x = block(x)")
    elif form == "list" and s.random.random() < 0.5:
        s.line(f"x = {s.module('stage', f'nn.Sequential({name})')}(x)")
    else:
        s.line(*[f"x = {name}(x)"] * times)
    return []


def _inner(s: Scope, write: Piece) -> str:
    """An expression that makes a new module of a class of its own, which `write` writes."""
    inner = Scope(s.writing, s.channels, s.size, s.depth + 1)
    write(inner)
    if s.writing.chance("frozen"):
        inner.methods += _FROZEN
    name = f"Block{len(s.writing.classes) + 1}"
    s.writing.classes.append(inner.written(name, "return x"))
    s.channels, s.size = inner.channels, inner.size
    return f"{name}()"


_FROZEN = (
    "def train(self, mode=True):",
    "    super().train(mode)",
    "    for module in self.modules():",
    "        if isinstance(module, nn.BatchNorm2d):",
    "            module.eval()",
    "    return self",
)


def _images(s: Scope, kind: str) -> None:
    """What is done with the images first."""
    if kind == "buffers":
        s.init.append("self.register_buffer('mean', torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))")
    s.note(*(["in-place", "statement"] if "in_place" in kind else []))
    s.line(
        *{
            "none": [],
            "scaled": ["x = (x - 0.5) / 0.25"],
            "buffers": ["x = (x - self.mean) / 0.25"],
            "in_place": [s.pick(["x.sub_(0.5)", "x.mul_(2).sub_(1)", "x -= 0.5"])],
            "in_place_item": [s.pick(["x[:, 0] = x[:, 0] * 0.5", "x[:, 1:].mul_(0.5)", "x[:, :, 0] = 0"])],
        }[kind]
    )


def _stem(s: Scope) -> None:
    layer(s, s.width(), 3, s.random.choice((1, 2, 2)))
    if s.size > 8:
        pool(s)


def _sequential(s: Scope, blocks: list[str]) -> str:
    """The network as an nn.Sequential of classes; what `s` holds outside of them is its first module."""
    head = Scope(s.writing, s.channels, s.size, 1)
    returned = _head(head, s.writing.one("head"))
    classes = [*s.writing.classes, head.written("Head", f"return {returned}")]
    if s.lines:
        first = Scope(s.writing, 3, SHAPE[1], 1, init=[i for i in s.init if i.startswith("self.")], lines=s.lines)
        classes.append(first.written("First", "return x"))
        blocks = ["First()", *blocks]
    made = [f"    {line}" for line in s.init if not line.startswith("self.")]
    if s.random.random() < 0.5:
        return "\n".join([*classes, "def Net():", *made, f"    return nn.Sequential({', '.join([*blocks, 'Head()'])})"])
    inner = f"nn.Sequential({', '.join(blocks)})"
    return "\n".join([*classes, "def Net():", *made, f"    return nn.Sequential({inner}, Head())"])


def _root(s: Scope) -> None:
    """Hooks on the network, BatchNorms that it keeps frozen."""
    if s.writing.chance("hook:root_before"):
        s.init.append("self.register_forward_pre_hook(lambda module, given: ((given[0] - 0.5) / 0.25,))")
    if s.writing.chance("hook:root"):
        s.init.append(
            "self.register_forward_hook(lambda module, given, made: made / 2 if torch.is_tensor(made) else made)"
        )
    if s.writing.chance("frozen"):
        s.methods += _FROZEN


def _head(s: Scope, kind: str) -> str:
    """Writes what comes after the maps; the expression of the logits."""
    c, out = s.channels, CLASSES
    if kind == "conv":
        s.line(f"x = {s.module('fc', f'nn.Conv2d({c}, {out}, 1)')}(x)")
        return s.pick(["x.mean((2, 3))", "F.adaptive_avg_pool2d(x, 1).flatten(1)"])
    if kind == "maps":
        n = min(2, s.size)
        s.line(f"x = F.adaptive_avg_pool2d(x, {n})")
        s.line(s.pick(["x = torch.flatten(x, 1)", "x = x.view(x.size(0), -1)", f"x = x.reshape(-1, {c * n * n})"]))
        return f"{s.module('fc', f'nn.Linear({c * n * n}, {out})')}(x)"
    flat = s.pick(
        ["x = torch.flatten(x, 1)", "x = x.view(x.size(0), -1)", "x = x.squeeze(-1).squeeze(-1)", "x = x[:, :, 0, 0]"]
    )
    if kind == "max":
        s.line("x = x.amax((2, 3))")
    elif kind == "mean" or (kind == "two" and s.random.random() < 0.5):
        s.line(
            s.pick(
                ["x = x.mean((2, 3))", "x = x.mean([2, 3])", "x = torch.mean(x, dim=(-2, -1))", "x = x.mean(3).mean(2)"]
            )
        )
    else:
        pooled = s.called("pool", ["nn.AdaptiveAvgPool2d(1)"], ["F.adaptive_avg_pool2d(x, 1)"])
        s.line(f"x = {pooled}", flat)
    if kind == "two":
        s.line(f"x = {s.module('hidden', f'nn.Linear({c}, 10)')}(x)")
        if s.random.random() < 0.3:
            s.line(f"x = {s.module('norm', 'nn.BatchNorm1d(10)')}(x)")
        s.line(s.pick(["x = F.relu(x)", "F.relu_(x)", "x = F.dropout(x.relu(), 0.2, self.training)"]))
        c = 10
    return f"{s.module('fc', f'nn.Linear({c}, {out})')}(x)"
