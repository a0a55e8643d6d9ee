"""Small networks whose checkpoints are tried: each made with weights of its own for every seed."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm


class Plain(nn.Module):
    """Convolution, norm, classifier."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.bn(self.conv(x)).relu().mean((2, 3), keepdim=True))


class Shared(nn.Module):
    """One layer under three names."""

    def __init__(self, tied: bool = True):
        super().__init__()
        blocks = [nn.Conv2d(6, 6, 3, 1, 1) for _ in range(3)]
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)
        self.layers = nn.ModuleList([blocks[0]] * 3 if tied else blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x.mean((2, 3)))


class TwoHeads(nn.Module):
    """Two classifiers whose mean is the answer."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.conv, self.head, self.head_dist = nn.Conv2d(3, 6, 3), nn.Linear(6, num_classes), nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.conv(x).mean((2, 3))
        return (self.head(x) + self.head_dist(x)) / 2


class Normed(nn.Module):
    """A convolution with weight norm: a parametrization, or hooks as torch had before."""

    def __init__(self, old: bool):
        super().__init__()
        norm = weight_norm if old else parametrizations.weight_norm
        self.conv, self.head = norm(nn.Conv2d(3, 6, 3)), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.conv(x).mean((2, 3)))


class Stubborn(Plain):
    """Refuses its last weights when it has taken the others."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(self._refuse)

    def _refuse(self, *_: object) -> None:
        raise ValueError("one line\nand another")


class Indexed(Plain):
    """With an index that is made anew and not saved."""

    def __init__(self, last: int = 3, saved: bool = False) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor([0, 1, last]), persistent=saved)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that `make` gives, in eval mode, its numbers drawn anew with this seed."""
    made = make().eval()
    generator = torch.Generator().manual_seed(seed)
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return made


def plain(seed: int) -> nn.Module:
    """`Plain` with four classes."""
    return seeded(Plain, seed)


def seven(seed: int) -> nn.Module:
    """`Plain` with seven classes."""
    return seeded(lambda: Plain(7), seed)


def two_heads(seed: int) -> nn.Module:
    """`TwoHeads` with four classes."""
    return seeded(TwoHeads, seed)


def shared(seed: int) -> nn.Module:
    """`Shared`, its layers one."""
    return seeded(Shared, seed)


def untied(seed: int) -> nn.Module:
    """`Shared` with three layers that are not one."""
    return seeded(lambda: Shared(False), seed)


def normed(seed: int) -> nn.Module:
    """`Normed` as a parametrization."""
    return seeded(lambda: Normed(False), seed)


def normed_as_before(seed: int) -> nn.Module:
    """`Normed` with hooks."""
    return seeded(lambda: Normed(True), seed)


def inside(seed: int) -> nn.Module:
    """`Plain` as the only module of another network."""
    return nn.ModuleDict({"wrapped": plain(seed)})


def stubborn(seed: int) -> nn.Module:
    """`Stubborn`."""
    return seeded(Stubborn, seed)


def indexed(seed: int) -> nn.Module:
    """`Indexed`, its index not saved."""
    return seeded(Indexed, seed)
