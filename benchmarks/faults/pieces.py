"""The pieces that random networks are made of: each writes lines that turn x, a map of known size, into another."""

from benchmarks.faults.grammar import Piece, Scope, act, add, conv, layer, multiply, norm


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
    s.line(f"x = {s.called('shuffle', ['nn.PixelShuffle(2)'], ['F.pixel_shuffle(x, 2)'])}")
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
    modules, functions = ["nn.MaxPool2d(2)", "nn.AvgPool2d(2)"], ["F.max_pool2d(x, 2)", "F.avg_pool2d(x, 2)"]
    s.line(f"x = {s.called('pool', modules, functions)}")
    s.size //= 2


def dropout(s: Scope) -> None:
    """Dropout in one of its forms; in-place ones, too."""
    if s.random.random() < 0.25:
        s.note("in-place", "statement")
        s.line("F.dropout(x, 0.2, self.training, inplace=True)")
    else:
        modules = ["nn.Dropout(0.2)", "nn.Dropout2d(0.2)"]
        s.line(f"x = {s.called('drop', modules, ['F.dropout(x, 0.2, self.training)'])}")


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


def unusual(s: Scope) -> None:
    """What people write once in a while."""
    kind = s.writing.one("unusual")
    if kind == "layer_norm":
        s.line(f"x = {s.module('norm', f'nn.LayerNorm({s.channels})')}(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)")
    elif kind == "parameter_list":
        name = s.name("scales")
        s.init.append(
            f"self.{name} = nn.ParameterList([nn.Parameter(torch.rand({s.channels}, 1, 1)) for _ in range(2)])"
        )
        s.line(f"for weight in self.{name}:", "    x = x * weight + x")
    elif kind == "checkpoint":
        name = conv(s, s.channels)
        s.line(
            "if self.training:", f"    x = checkpoint({name}, x, use_reentrant=False)", "else:", f"    x = {name}(x)"
        )
    else:
        s.line(
            *{
                "no_grad": ["with torch.no_grad():", "    x = F.avg_pool2d(x, 3, 1, 1)"],
                "autocast": ["with torch.autocast('cpu', enabled=False):", "    x = F.max_pool2d(x, 3, 1, 1)"],
                "made_in_forward": ["x = nn.ReLU()(x)"],
                "dict": ["maps = {'a': x}", "maps['b'] = maps['a'] * 0.5", "x = maps['b']"],
                "sum": [s.pick(["x = sum([x, x * 0.5])", "x = torch.stack([x, x.relu()]).sum(0)"])],
                "where": [s.pick(["x = torch.where(x > 0, x, 0.1 * x)", "x = torch.maximum(x, 0.1 * x)"])],
                "arithmetic": [
                    s.pick(["x = x / (1 + x.abs())", "x = 1 - x", "x = (x * x + 1).sqrt()", "x = x.pow(2)"])
                ],
                "permuted": ["x = x.permute(0, 2, 3, 1)", "x = F.relu(x)", "x = x.permute(0, 3, 1, 2)"],
                "flip": [s.pick(["x = x.flip(-1)", "x = x.transpose(2, 3)", "x = torch.roll(x, 1, 3)"])],
                "mean_over_channels": ["x = x * x.mean(1, keepdim=True).sigmoid()"],
            }[kind]
        )


PIECES: dict[str, Piece] = {
    "plain": plain, "sequence": sequence, "residual": residual, "dense": dense, "inception": inception,
    "doubled": doubled, "squeeze": squeeze, "glu": glu, "two_gates": two_gates, "grouped": grouped,
    "depthwise": depthwise, "split": split, "pixels": pixels, "resize": resize, "pool": pool, "dropout": dropout,
    "training": training, "scale": scale, "written_into": written_into, "before_and_after": before_and_after,
    "sized": sized, "unusual": unusual, "memory": memory,
}  # fmt: skip
