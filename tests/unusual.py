"""Small networks that change things in place, keep state, share layers, or differ in train mode."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from tests import pico


def _cbr(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Base(nn.Module):
    """Three conv-BN-ReLU groups and a linear head; subclasses change what lies between the first and the second."""

    def __init__(self, num_classes: int = 4, width: int = 6):
        super().__init__()
        self.stem, self.body = _cbr(3, width), nn.Sequential(_cbr(width, width, 2), _cbr(width, 2 * width))
        self.extra = nn.Conv2d(width, width, 1)
        self.fc = nn.Linear(2 * width, num_classes)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(self.between(self.stem(x))).mean((2, 3)))


class ModuleStatement(Base):
    """An in-place module whose result is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x = self.extra(x)
        self.act(x)
        return x


class FunctionStatement(Base):
    """The same by a function, and a method before the next convolution."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x = self.extra(x)
        F.relu(x, inplace=True)
        y = self.extra(x)
        y.clamp_(max=1.0)
        return y


class BeforeAndAfter(Base):
    """A value is read before it is changed and, under its old name, after."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = self.extra(x)
        early = y.sigmoid()
        y.relu_()
        return early * y + x


class AugmentedAlias(Base):
    """`y += z` changes what x is, too."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        y += self.extra(x)
        return x * 0.5


class Gate(Base):
    """Squeeze-excitation as a statement, and a sum as one."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(self.extra(x.mean((2, 3), keepdim=True)).sigmoid())
        y = self.extra(x)
        y.add_(x)
        return y


class View(Base):
    """Rows are changed through a view of them."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = self.extra(x)
        y[:, :, 1:].mul_(0.5)
        x[:, :, 0, 0] = 0.1
        y[:, :, :1] *= 2
        return y + x


class Flattened(Base):
    """A map is changed through a view of it as rows, and read as rows, not pooled, by the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12 * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        rows = x.view(x.size(0), -1)
        rows.mul_(0.25)
        x = self.body(self.extra(x))
        return self.fc(x.view(x.size(0), -1))


class Item(Base):
    """One channel is set to zero."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] = 0
        return self.extra(x)


class Images(Base):
    """Normalises the images in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.4).div_(0.3)
        return super().forward(x)


class Canvas(Base):
    """A constant made once is filled anew for each batch."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        frame = torch.zeros(1, 6, 16, 16)
        frame += x.mean(0, keepdim=True) * 0.0 + 0.1
        return x + frame


class OwnNorm(Base):
    """A normalisation that keeps its running mean itself, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 6, 1, 1), 0.2))
        self.register_buffer("count", torch.zeros(()))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.get_buffer("mean")
        if self.training:
            batch = x.mean((0, 2, 3), keepdim=True)
            self.get_buffer("count").add_(1)
            mean.mul_(0.9).add_(batch.detach() * 0.1)
            return x - batch
        return x - mean


class Remembers(Base):
    """Keeps what it has seen as an attribute, as some do to show it."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return self.extra(x)


class DropPath(Base):
    """A branch that is dropped at times, written out, in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([pico.Residual(6, 6) for _ in range(2)])

    def between(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            if self.training:
                keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.7)
                x = x + (block(x) - x) * keep
            else:
                x = block(x)
        return x


class Noise(Base):
    """Noise in train mode."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


class Auxiliary(Base):
    """Two answers in train mode, the second with statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1))

    def forward(self, x: torch.Tensor) -> Any:
        y = self.stem(x)
        answer = self.fc(self.body(y).mean((2, 3)))
        return (answer, self.second(y).mean((2, 3))) if self.training else answer


class Frozen(Base):
    """BatchNorms that stay in eval mode."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class Hooked(Base):
    """Hooks on the network and in it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(lambda _, given: ((given[0] - 0.5) / 0.25,))
        self.register_forward_hook(self.twice)
        self.body.register_forward_hook(self.twice)

    def twice(self, _: nn.Module, __: Any, given: Any) -> torch.Tensor:
        return given * 2


class Keywords(Base):
    """Takes whatever else is given."""

    def forward(self, x: Any = None, *others: Any, scale: float = 2.0, **more: Any) -> torch.Tensor:
        answer: torch.Tensor = super().forward(x)
        return answer * scale + len(others) + len(more)


class MadeInside(Base):
    """Layers without weights, made as it runs."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return nn.Dropout(0.0)(nn.GELU()(self.extra(x)))


class SharedBlock(Base):
    """Two blocks, each used twice."""

    def __init__(self) -> None:
        super().__init__()
        a, b = pico.Residual(6, 6), pico.Residual(6, 6)
        self.blocks = nn.ModuleList([a, b, a, b])

    def between(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class SharedNorm(Base):
    """One BatchNorm and one PReLU behind two convolutions, which share their weight, too."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(6, 6, 1)
        self.other.weight = self.extra.weight
        self.norm, self.act = nn.BatchNorm2d(6), nn.PReLU(6)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.other(self.act(self.norm(self.extra(x))))))


class Unnormed(Base):
    """BatchNorms without statistics, and without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm2d(6, track_running_stats=False), nn.BatchNorm2d(6, affine=False))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.extra(x)))


class Gated(Base):
    """Halves of a convolution's channels gate each other; pieces are put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(6, 12, 1)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.wide(x).chunk(2, 1)
        first, second = (value * gate.sigmoid()).split([2, 4], dim=1)
        return torch.cat([self.extra(x)[:, :3], first, second], 1)[:, 1:7]


class Halted(Base):
    """The stem does not learn: its answer is computed without gradients."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.extra(x).relu()
        return x * 1.5


class Shuffled(Base):
    """Channels are shuffled in groups, rolled in space, gated by halves and unfolded into pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Conv2d(6, 12, 1, groups=3), nn.Conv2d(6, 24, 1)
        self.unfold = nn.PixelShuffle(2)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = self.wide(x)
        b, c, h, w = y.shape
        y = y.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        y = F.glu(y, 1).roll(1, 2).to(memory_format=torch.channels_last)
        return F.avg_pool2d(self.unfold(self.deep(x)), 2) + y


class AsksWhatItIs(Base):
    """Hooks and code that look at what they are given: a tensor is one while it is traced, too; a size is none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(lambda module, given, made: made / 2 if torch.is_tensor(made) else made)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        count: Any = x.size(1)
        if isinstance(x, torch.Tensor) and not isinstance(count, torch.Tensor) and not isinstance(x, nn.Parameter):
            return self.extra(x).view(x.size(0), count, *x.shape[2:])
        return x * 0


class Counting(Base):
    """Does as much as there are channels, and insists on their number."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 6
        for _ in range(x.shape[1] // 3):
            x = F.avg_pool2d(x, 3, 1, 1)
        return self.extra(x)


class Compared(Base):
    """Values by their signs: negated, masked, chosen, raised to a power; space transposed; groups shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(12, 6, 1, groups=2)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, -self.extra(x)], 1)
        y = F.channel_shuffle(self.narrow(y).transpose(2, 3), 2)
        y[y < -1] = 0.5
        y.masked_fill_(y > 1, 0.75)
        return torch.where(y > 0, y.pow(2), 0.1 * y).permute(0, 1, 3, 2)


class Thinned(Base):
    """A shortcut in train mode alone."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = self.extra(x)
        if self.training:
            keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.5)
            y = x + (y - x + 0.1 * torch.randn_like(y)) * keep
        return y


class Assigned(Base):
    """A running mean of its own, given to a buffer in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3)).detach()
        return x - self.mean.view(1, -1, 1, 1)


class Chancy(nn.Module):
    """Leaves a block out in train mode, by a number that it draws by itself."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.stem, self.blocks = _cbr(3, 6), nn.Sequential(*(_ByChance() if inside else _cbr(6, 6) for _ in range(3)))
        self.fc, self.inside = nn.Linear(6, 4), inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x * 0.5 if self.training and not self.inside and torch.rand(1).item() < 0.5 else x
        return self.fc(self.blocks(x).mean((2, 3)))


class _ByChance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.rand(1).item() < 0.5:
            return x
        return x + F.relu(self.conv(x))


def weighted(kind: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    """Weights of all convolutions that are made anew in each pass."""

    def make() -> nn.Module:
        model = Base()
        model.body.insert(0, nn.Conv2d(6, 6, 1, bias=False))
        for module in list(model.modules()):
            if isinstance(module, nn.Conv2d):
                kind(module)
        return model

    return make


MADE_ANEW: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": weighted(weight_norm),
    "spectral_norm": weighted(spectral_norm),
    "pruned": weighted(lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),
    "parametrized": weighted(parametrizations.weight_norm),
}
IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "module": ModuleStatement, "function": FunctionStatement, "before_and_after": BeforeAndAfter,
    "augmented": AugmentedAlias, "gate": Gate, "view": View, "flattened": Flattened, "item": Item, "images": Images,
    "canvas": Canvas,
}  # fmt: skip
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "own_norm": OwnNorm, "remembers": Remembers, "drop_path": DropPath, "noise": Noise, "auxiliary": Auxiliary,
    "frozen": Frozen, "hooked": Hooked, "keywords": Keywords, "made_inside": MadeInside, "shared_block": SharedBlock,
    "shared_norm": SharedNorm, "unnormed": Unnormed, "gated": Gated, "halted": Halted, "shuffled": Shuffled,
    "asks": AsksWhatItIs, "counting": Counting, "compared": Compared, "thinned": Thinned,
    "assigned": Assigned,
}  # fmt: skip
ALL = {**IN_PLACE, **OTHERS, **MADE_ANEW}
CANNOT_LEARN = ("gate", "augmented", "item", "view", "flattened")  # what is changed in place is needed for gradients
COUPLED = (
    "module", "function", "before_and_after", "augmented", "gate", "view", "flattened", "images", "remembers", "hooked",
    "keywords", "made_inside", "shared_block", "shared_norm", "unnormed", "gated", "frozen", "halted", "shuffled",
    "asks", "counting", "compared", *MADE_ANEW,
)  # fmt: skip


def build(name: str) -> nn.Module:
    """One of ALL, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pico.alive(ALL[name]())
