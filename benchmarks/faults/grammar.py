"""Source text of random tiny CNNs, as people write them: modules, and the forms of what all networks are made of.

Forms of one thing (`x = x + y`, `x += y`, `x.add_(y)` as a statement) are drawn one by one, since they fail one by one.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

CLASSES = 4
_WIDTHS = (4, 6, 8, 12)
Piece = Callable[["Scope"], None]


@dataclass
class Writing:
    """What all modules of one network share: chances, and the classes and features that are written so far."""

    random: random.Random
    weights: Mapping[str, float]
    features: set[str] = field(default_factory=set)
    classes: list[str] = field(default_factory=list)

    def chance(self, feature: str) -> bool:
        """Whether a feature that is a matter of yes or no is taken; it is noted then."""
        taken = self.random.random() < self.weights[feature]
        if taken:
            self.features.add(feature)
        return taken

    def one(self, prefix: str) -> str:
        """One of the features `prefix:*`, by their weights; it is noted."""
        names = [name for name in self.weights if name.startswith(f"{prefix}:")]
        name = self.random.choices(names, [self.weights[n] for n in names])[0]
        self.features.add(name)
        return name.removeprefix(f"{prefix}:")


@dataclass
class Scope:
    """A module that is being written: lines of `__init__` and of `forward`, and the shape [channels, size, size] of x.

    convs: attribute, inputs, outputs, kernel and groups of convolutions whose weights others may use; norms:
    attribute -> channels; act: an activation module for all.
    """

    writing: Writing
    channels: int
    size: int
    depth: int = 0
    init: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    convs: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)
    norms: dict[str, int] = field(default_factory=dict)
    act: str = ""
    count: int = 0

    @property
    def random(self) -> random.Random:
        """The source of all chances."""
        return self.writing.random

    def note(self, *features: str) -> None:
        """Features that were written."""
        self.writing.features.update(features)

    def name(self, stem: str) -> str:
        """A new name."""
        self.count += 1
        return f"{stem}{self.count}"

    def module(self, stem: str, expression: str) -> str:
        """A new submodule."""
        name = self.name(stem)
        self.init.append(f"self.{name} = {expression}")
        return f"self.{name}"

    def line(self, *lines: str) -> None:
        """Of `forward`."""
        self.lines += lines

    def pick(self, options: Sequence[str]) -> str:
        """One of several, all alike in chance."""
        return self.random.choice(list(options))

    def called(self, stem: str, modules: Sequence[str], functions: Sequence[str]) -> str:
        """A call of x by one of several functions, or by a new submodule that is one of `modules`."""
        chosen = self.random.choice([*modules, *functions])
        return f"{self.module(stem, chosen)}(x)" if chosen in modules else chosen

    def width(self) -> int:
        """A number of channels."""
        return self.random.choice(_WIDTHS)

    def written(self, name: str, returned: str, signature: str = "x") -> str:
        """The class."""
        parts = [
            f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()",
            *(f"        {line}" for line in self.init),
            f"    def forward(self, {signature}):",
            *(f"        {line}" for line in self.lines),
            f"        {returned}" if returned else "",
            *(f"    {line}" for line in self.methods),
        ]
        return "\n".join(part for part in parts if part) + "\n"


def conv(s: Scope, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, inputs: int | None = None) -> str:
    """A convolution that keeps the size but for its stride; sometimes one that is there already, or its weight."""
    given = inputs or s.channels
    shape = (given, outputs, kernel, groups)
    alike = [name for name, other in s.convs if other == shape]
    if alike and stride == 1 and s.writing.chance("shared:conv"):
        s.note("shared")
        return s.pick(alike)
    bias = s.pick(["", "", ", bias=False"])
    grouped = f", groups={groups}" if groups > 1 else ""
    made = f"nn.Conv2d({given}, {outputs}, {kernel}, {stride}, {kernel // 2}{grouped}{bias})"
    wrapper = s.writing.one("weights")
    made = {
        "plain": "{}",
        "weight_norm": "nn.utils.weight_norm({})",
        "spectral_norm": "nn.utils.spectral_norm({})",
        "pruned": "prune.l1_unstructured({}, 'weight', 0.3)",
        "new_weight_norm": "nn.utils.parametrizations.weight_norm({})",
        "new_spectral_norm": "nn.utils.parametrizations.spectral_norm({})",
    }[wrapper].format(made)
    name = s.module("conv", made)
    if wrapper == "plain" and alike and s.writing.chance("shared:weight"):
        s.note("shared")
        s.init.append(f"{name}.weight = {s.pick(alike)}.weight")
    if wrapper == "plain":
        s.convs.append((name, shape))
    if s.writing.chance("hook:forward"):
        s.init.append(f"{name}.register_forward_hook(lambda module, given, made: made * 0.7)")
    elif s.writing.chance("hook:forward_in_place"):
        s.note("in-place")
        s.init.append(f"{name}.register_forward_hook(lambda module, given, made: made.mul_(0.7))")
    elif s.writing.chance("hook:before"):
        s.init.append(f"{name}.register_forward_pre_hook(lambda module, given: (given[0] * 0.7,))")
    return name


def norm(s: Scope, channels: int | None = None) -> str:
    """A norm, or nothing."""
    c = channels or s.channels
    alike = [name for name, count in s.norms.items() if count == c]
    if alike and s.writing.chance("shared:norm"):
        s.note("shared")
        return s.pick(alike)
    made = {
        "none": "",
        "batch": f"nn.BatchNorm2d({c})",
        "without_affine": f"nn.BatchNorm2d({c}, affine=False)",
        "without_statistics": f"nn.BatchNorm2d({c}, track_running_stats=False)",
        "group": f"nn.GroupNorm(2, {c})",
        "instance": f"nn.InstanceNorm2d({c}, affine={s.pick(['True', 'False'])})",
    }[s.writing.one("norm")]
    name = s.module("norm", made) if made else ""
    if made:
        s.norms[name] = c
    return name


def act(s: Scope, x: str = "x") -> None:
    """An activation of a variable, in one of its forms."""
    if s.act and s.writing.chance("shared:act"):
        s.note(*(["in-place"] if "inplace" in s.act else []))
        s.line(f"{x} = {s.act.split()[0]}({x})")
        return
    kind = s.writing.one("act")
    c = s.channels
    if kind == "ReLU":
        form = s.writing.one("relu")
        if form.startswith("module"):
            name = s.module("relu", "nn.ReLU()" if form == "module" else "nn.ReLU(inplace=True)")
            s.act = s.act or f"{name} {form}"
        else:
            name = ""
        s.note(*(["in-place"] if form not in ("module", "function", "method") else []))
        s.note(*(["statement"] if "statement" in form or form == "clamp" else []))
        s.line(
            {
                "module": f"{x} = {name}({x})",
                "module_inplace": f"{x} = {name}({x})",
                "module_statement": f"{name}({x})",
                "function": s.pick([f"{x} = F.relu({x})", f"{x} = torch.relu({x})"]),
                "function_inplace": s.pick([f"{x} = F.relu({x}, inplace=True)", f"{x} = torch.relu_({x})"]),
                "function_statement": s.pick([f"F.relu({x}, inplace=True)", f"F.relu_({x})", f"torch.relu_({x})"]),
                "method": s.pick([f"{x} = {x}.relu()", f"{x} = {x}.clamp(min=0)"]),
                "method_inplace": f"{x} = {x}.relu_()",
                "method_statement": f"{x}.relu_()",
                "clamp": s.pick([f"{x}.clamp_(min=0)", f"{x}[{x} < 0] = 0", f"{x}.masked_fill_({x} < 0, 0.0)"]),
            }[form]
        )
    elif kind == "PReLU":
        s.line(f"{x} = {s.module('act', f'nn.PReLU({s.random.choice((1, c))})')}({x})")
    elif kind in ("ReLU6", "LeakyReLU", "SiLU", "Hardswish") and s.writing.chance("in-place:act"):
        s.note("in-place")
        name = s.module("act", f"nn.{kind}(inplace=True)")
        if s.writing.chance("in-place:act_statement"):
            s.note("statement")
            s.line(f"{name}({x})")
        else:
            s.line(f"{x} = {name}({x})")
    elif s.random.random() < 0.6:
        s.line(f"{x} = {s.module('act', f'nn.{kind}()')}({x})")
    else:
        s.line(f"{x} = F.{kind.lower().replace('leakyrelu', 'leaky_relu')}({x})")


def layer(s: Scope, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, active: bool = True) -> None:
    """Convolution, norm, activation."""
    s.line(f"x = {conv(s, outputs, kernel, stride, groups)}(x)")
    s.channels, s.size = outputs, s.size // stride
    name = norm(s)
    if name:
        s.line(f"x = {name}(x)")
    if active:
        act(s)


def add(s: Scope, y: str) -> None:
    """Y is added to x."""
    form = s.writing.one("add")
    s.note(*(["in-place"] if form.startswith("inplace") else []))
    s.note(*(["statement"] if form == "inplace_statement" else []))
    s.line(
        *{
            "plain": s.pick([f"x = x + {y}", f"x = {y} + x", f"x = torch.add(x, {y})"]).split("; "),
            "inplace": s.pick([f"x += {y}", f"x = x.add_({y})", f"{y} += x; x = {y}"]).split("; "),
            "inplace_statement": s.pick([f"x.add_({y})", f"{y}.add_(x); x = {y}", f"x.add_({y}, alpha=0.5)"]).split(
                "; "
            ),
        }[form]
    )


def multiply(s: Scope, g: str) -> None:
    """X is multiplied with g."""
    form = s.writing.one("multiply")
    s.note(*(["in-place"] if form.startswith("inplace") else []))
    s.note(*(["statement"] if form == "inplace_statement" else []))
    s.line(
        {
            "plain": s.pick([f"x = x * {g}", f"x = {g} * x", f"x = torch.mul(x, {g})"]),
            "inplace": s.pick([f"x *= {g}", f"x = x.mul_({g})"]),
            "inplace_statement": f"x.mul_({g})",
        }[form]
    )
