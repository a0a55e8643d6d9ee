"""Source text of random tiny CNNs, as people write them: the grammar that `benchmarks.faults.networks` draws from.

Every piece below writes lines that turn `x`, a map of known size, into another; WEIGHTS says how often each is taken.
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
    made = f"nn.Conv2d({given}, {outputs}, {kernel}, {stride}, {kernel // 2}, groups={groups}{bias})"
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


def _stride(s: Scope) -> int:
    return 2 if s.size >= 8 and s.random.random() < 0.4 else 1


def plain(s: Scope) -> None:
    """One layer or two."""
    for _ in range(s.random.randint(1, 2)):
        layer(s, s.width(), s.random.choice((1, 3)), _stride(s))


def sequence(s: Scope) -> None:
    """An nn.Sequential of torch's own modules."""
    parts = []
    for _ in range(s.random.randint(1, 2)):
        d = s.width()
        inplace = s.pick(["", "inplace=True"])
        s.note(*(["in-place"] if inplace else []))
        parts += [f"nn.Conv2d({s.channels}, {d}, 3, 1, 1)", f"nn.BatchNorm2d({d})", f"nn.ReLU({inplace})"]
        s.channels = d
    made = s.module("sequence", f"nn.Sequential({', '.join(parts)})")
    s.line(f"x = {made}(x)")


def residual(s: Scope) -> None:
    """A branch around a shortcut: identity, convolution, or padded channels."""
    y, c = s.name("y"), s.channels
    s.line(f"{y} = x")
    kind = s.writing.one("shortcut")
    d, stride = c, 1
    if kind != "identity":
        d, stride = c + s.random.choice((2, 4)), 2 if s.size >= 8 else 1
    if s.writing.chance("preactivation"):  # in place, it changes the shortcut, too
        act(s)
    layer(s, d, 3, stride)
    layer(s, d, 3, active=False)
    if kind == "conv":
        s.line(f"{y} = {conv(s, d, 1, stride, inputs=c)}({y})")
    elif kind == "padded":
        first = (d - c) // 2
        s.line(f"{y} = F.pad({y}[:, :, ::{stride}, ::{stride}], (0, 0, 0, 0, {first}, {d - c - first}))")
    add(s, y)
    if s.random.random() < 0.7:
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


def dense(s: Scope) -> None:
    """DenseNet: everything before is read again."""
    s.note("concatenated")
    for _ in range(s.random.randint(1, 2)):
        y = s.name("y")
        c = s.channels
        s.line(f"{y} = x")
        if s.writing.chance("preactivation"):
            if name := norm(s):
                s.line(f"x = {name}(x)")
            act(s)
        layer(s, 4)
        s.line(
            s.pick(
                [f"x = torch.cat([{y}, x], 1)", f"x = torch.cat((x, {y}), dim=1)", f"x = torch.concat([x, {y}], -3)"]
            )
        )
        s.channels = c + 4


def inception(s: Scope) -> None:
    """Branches side by side."""
    s.note("concatenated")
    y, made, total = s.name("y"), [], 0
    c = s.channels
    s.line(f"{y} = x")
    for _ in range(s.random.randint(2, 3)):
        s.line(f"x = {y}")
        s.channels = c
        if s.random.random() < 0.2:
            s.line("x = F.max_pool2d(x, 3, 1, 1)")
        layer(s, s.random.choice((4, 6)), s.random.choice((1, 3)))
        made.append(s.name("b"))
        s.line(f"{made[-1]} = x")
        total += s.channels
    s.line(f"x = torch.cat([{', '.join(made)}], 1)")
    s.channels = total


def doubled(s: Scope) -> None:
    """A map beside itself, or beside its negative."""
    s.note("concatenated")
    s.line(s.pick(["x = torch.cat([x, x], 1)", "x = torch.cat([x, -x], 1)", "x = torch.cat([x, x.relu()], 1)"]))
    s.channels *= 2
    layer(s, s.width(), 1)


def squeeze(s: Scope) -> None:
    """Squeeze-excitation."""
    s.note("gated")
    g, c = s.name("g"), s.channels
    if s.random.random() < 0.3:
        s.line(f"{g} = {s.module('down', f'nn.Linear({c}, 4)')}(x.mean((2, 3)))", f"{g} = F.relu({g})")
        s.line(f"{g} = {s.module('up', f'nn.Linear(4, {c})')}({g})")
        s.line(
            f"{g} = {g}"
            + s.pick([f".view(x.size(0), {c}, 1, 1)", "[:, :, None, None]", ".unsqueeze(-1).unsqueeze(-1)"])
        )
    else:
        s.line(s.pick([f"{g} = x.mean((2, 3), keepdim=True)", f"{g} = F.adaptive_avg_pool2d(x, 1)"]))
        s.line(f"{g} = {conv(s, 4, 1)}({g})")
        act_of_gate = s.pick([f"{g} = F.relu({g})", f"{g}.relu_()", f"F.relu({g}, inplace=True)"])
        s.note(*(["in-place", "statement"] if not act_of_gate.startswith(f"{g} =") else []))
        s.line(act_of_gate, f"{g} = {conv(s, c, 1, inputs=4)}({g})")
    s.line(
        s.pick([f"{g} = {g}.sigmoid()", f"{g} = torch.sigmoid({g})", f"{g} = F.hardsigmoid({g})", f"{g}.sigmoid_()"])
    )
    multiply(s, g)


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


def glu(s: Scope) -> None:
    """Half of the channels gate the others."""
    s.note("gated")
    d = s.random.choice((4, 6))
    layer(s, 2 * d, active=False)
    s.line(
        *s.pick(
            [
                "a, b = x.chunk(2, 1); x = a * b.sigmoid()",
                f"a, b = torch.split(x, {d}, 1); x = a * torch.sigmoid(b)",
                f"x = x[:, :{d}] * x[:, {d}:].sigmoid()",
                "x = F.glu(x, 1)",
            ]
        ).split("; ")
    )
    s.channels = d


def two_gates(s: Scope) -> None:
    """One layer gates another, or a map of one channel all."""
    s.note("gated")
    d, g = s.width(), s.name("g")
    s.line(f"{g} = {conv(s, s.random.choice((1, d)), 3)}(x).sigmoid()")
    layer(s, d, active=False)
    multiply(s, g)


def grouped(s: Scope) -> None:
    """A convolution of two groups."""
    layer(s, s.width(), 3, groups=2)


def depthwise(s: Scope) -> None:
    """Depthwise, then pointwise."""
    layer(s, s.channels, 3, _stride(s), s.channels)
    layer(s, s.width(), 1)


def split(s: Scope) -> None:
    """Half of the channels goes through a layer; sometimes all are shuffled then."""
    s.note("concatenated")
    c = s.channels
    half, y = c // 2, s.name("y")
    s.line(
        s.pick(
            [
                f"{y}, x = x.chunk(2, 1)",
                f"{y}, x = torch.split(x, {half}, dim=1)",
                f"{y}, x = x[:, :{half}], x[:, {half}:]",
            ]
        )
    )
    s.channels = half
    layer(s, half)
    s.line(f"x = torch.cat([{y}, x], 1)")
    s.channels = c
    if s.writing.chance("shuffle"):
        s.line(
            *s.pick(
                [
                    f"x = x.view(x.size(0), 2, {half}, x.size(2), x.size(3)).transpose(1, 2).reshape(x.shape)",
                    "b, c, h, w = x.shape; x = x.view(b, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)",
                    "x = F.channel_shuffle(x, 2)",
                ]
            ).split("; ")
        )


def pixels(s: Scope) -> None:
    """Channels become pixels."""
    layer(s, 16, 1)
    s.line(s.pick(["x = F.pixel_shuffle(x, 2)", f"x = {s.module('shuffle', 'nn.PixelShuffle(2)')}(x)"]))
    s.channels, s.size = 4, 2 * s.size
    s.line("x = F.max_pool2d(x, 2)")
    s.size //= 2


def resize(s: Scope) -> None:
    """A detour to another size."""
    s.line("x = F.interpolate(x, scale_factor=2, mode='nearest')", "x = F.avg_pool2d(x, 2)")


def pool(s: Scope) -> None:
    """Smaller maps."""
    if s.size < 4:
        return
    module = f"nn.{s.pick(['MaxPool2d', 'AvgPool2d'])}(2)"
    s.line(s.pick([f"x = {s.module('pool', module)}(x)", "x = F.max_pool2d(x, 2)", "x = F.avg_pool2d(x, 2)"]))
    s.size //= 2


def dropout(s: Scope) -> None:
    """Dropout in one of its forms; in-place ones, too."""
    form = s.pick(["module", "module", "function", "in-place"])
    s.note(*(["in-place", "statement"] if form == "in-place" else []))
    s.line(
        {
            "module": f"x = {s.module('drop', s.pick(['nn.Dropout(0.2)', 'nn.Dropout2d(0.2)']))}(x)",
            "function": "x = F.dropout(x, 0.2, self.training)",
            "in-place": "F.dropout(x, 0.2, self.training, inplace=True)",
        }[form]
    )


def training(s: Scope) -> None:
    """Something that happens in train mode only."""
    kind = s.pick(["drop_path", "noise", "noise_in_place", "drop_channel"])
    if kind == "drop_path":
        r = s.name("r")
        s.line(
            f"{r} = F.relu({conv(s, s.channels)}(x))",
            "if self.training:",
            "    keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.9)",
            f"    x = x + ({r} - x) * keep",
            "else:",
            f"    x = {r}",
        )
    elif kind == "noise":
        s.line("if self.training:", "    x = x + 0.1 * torch.randn_like(x)")
    elif kind == "noise_in_place":
        s.note("in-place", "statement")
        s.line("if self.training:", "    x.add_(torch.randn_like(x), alpha=0.1)")
    else:
        s.line("if self.training:", "    x = F.dropout2d(x, 0.1)")


def scale(s: Scope) -> None:
    """A weight or a buffer for each channel, or one for all."""
    shape = s.pick([f"1, {s.channels}, 1, 1", f"{s.channels}, 1, 1", "1"])
    name = s.name("scale")
    if s.random.random() < 0.3:
        s.init.append(f"self.register_buffer('{name}', torch.rand({shape}) + 0.5)")
    else:
        s.init.append(f"self.{name} = nn.Parameter(torch.rand({shape}) + 0.5)")
    if s.random.random() < 0.3:
        s.line(f"x = x + self.{name}")
    else:
        multiply(s, f"self.{name}")


def written_into(s: Scope) -> None:
    """Some values are changed where they lie."""
    s.note("in-place", "statement", "written-into")
    s.line(
        *s.pick(
            [
                "x[:, 0] = 0",
                "x[:, :, 1:].mul_(2)",
                "x[:, 1:3] *= 0.5",
                "v = x[:, :2]; v.add_(0.5)",
                "v = x[:, :, ::2]; v *= 0.5",
                "x[:, -1] = x[:, 0]",
                "x[:, :, 0] = 0.25",
                "x.mul_(0.5).add_(0.1)",
                "v = x.view(x.size(0), -1); v.mul_(0.5)",
                "v = x.transpose(2, 3); v[:, :, 0] = 0",
                "x.copy_(x.tanh())",
                "a, b = x.chunk(2, 1); a.mul_(0.5)",
                "x.neg_()",
            ]
        ).split("; ")
    )


def before_and_after(s: Scope) -> None:
    """A value that is read before it is changed, and afterwards."""
    s.note("in-place", "statement", "before-and-after")
    y = s.name("y")
    c = s.channels
    kept = s.pick(["x", "x", "x[:, :]", "x.detach()", "x.clone()", "x.view(x.shape)", "x.contiguous()", "x * 1"])
    s.line(f"{y} = {kept}")
    before = s.name("z")
    s.line(f"{before} = {conv(s, c)}({y})")
    s.line(s.pick(["x.relu_()", "F.relu(x, inplace=True)", "x.mul_(0.5)", "x.add_(1)", "x[:, 0] = 0", "x.sigmoid_()"]))
    s.line(
        *s.pick(
            [
                f"x = {before} + {y}",
                f"x = {before} + x",
                f"x = {before} + x + {y}",
                f"{before}.add_(x); x = {before}",
            ]
        ).split("; ")
    )


def sized(s: Scope) -> None:
    """Control flow that depends on sizes."""
    half = max(1, s.size // 2)
    kind = s.pick(["if", "pool", "loop", "assert", "unpack"])
    if kind == "if":
        s.line(f"if x.shape[-1] > {half}:", "    x = F.max_pool2d(x, 3, 1, 1)", "else:", "    x = x.relu()")
    elif kind == "pool":
        s.line("n = x.size(2) // 2", "x = F.adaptive_avg_pool2d(x, n)")
        s.size = half
    elif kind == "loop":
        s.line(f"for i in range(x.shape[1] // {max(1, s.channels // 2)}):", "    x = F.avg_pool2d(x, 3, 1, 1)")
    elif kind == "assert":
        s.line(f"assert x.dim() == 4 and x.shape[1] == {s.channels}")
    else:
        s.line("b, c, h, w = x.size()", "x = F.adaptive_max_pool2d(x, (h // 2, w // 2))")
        s.size = half


def memory(s: Scope) -> None:
    """Another order in memory."""
    s.line(
        s.pick(
            [
                "x = x.to(memory_format=torch.channels_last)",
                "x = x.contiguous(memory_format=torch.channels_last)",
                "x = x.contiguous()",
                "x = x.float()",
            ]
        )
    )


PIECES: dict[str, Piece] = {
    "plain": plain, "sequence": sequence, "residual": residual, "dense": dense, "inception": inception,
    "doubled": doubled, "squeeze": squeeze, "glu": glu, "two_gates": two_gates, "grouped": grouped,
    "depthwise": depthwise, "split": split, "pixels": pixels, "resize": resize, "pool": pool, "dropout": dropout,
    "training": training, "scale": scale, "written_into": written_into, "before_and_after": before_and_after,
    "sized": sized, "memory": memory,
}  # fmt: skip
