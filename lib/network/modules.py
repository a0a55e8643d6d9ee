"""The modules that networks made here consist of, beside what their sources lend: stitches, heads, branches."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from ..base.errors import BrickyardError
from ..chain.layout import Layout
from ..zoo.adapter import Adapter, Prepared
from ..zoo.card import Input

if TYPE_CHECKING:
    from .reassembled import Reassembled

Form = Literal["linear", "paper"]  # of a stitch


class Stitch(nn.Module):
    """Maps one layout to another: pooling to a smaller grid, a convolution, interpolation to a larger one.

    The convolution is 1x1; or 2x2 with stride 2 (`patch` = 2), where the grid shrinks to a half or a quarter, ...: it
    then sees the positions of the larger grid. Prefix tokens of the target are a linear map of the pooled source.
    Pooling and bilinear interpolation commute with a 1x1 convolution, so it always works on the smaller grid.
    """

    def __init__(self, source: Layout, target: Layout, patch: int = 1):
        super().__init__()
        self.source, self.target, self.patch = source, target, patch
        self.channels = nn.Conv2d(source.channels, target.channels, patch, patch)
        self.prefix = nn.Linear(source.channels, target.prefix * target.channels) if target.prefix else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A batch in the source's layout -> the same batch in the target's, contiguous, as views of a map need it."""
        y, prefix = enlarged(self.positions(self.source.to_map(x)), self.target), None
        if self.prefix is not None:
            prefix = self.prefix(self.source.pool(x)).unflatten(1, (self.target.prefix, self.target.channels))
        return self.target.from_map(y, prefix).contiguous()

    def positions(self, given: torch.Tensor) -> torch.Tensor:
        """A map [b, c, h, w] of the source -> that of the target, on its grid where that is the smaller one."""
        return self.channels(shrunk(given, self.target, self.patch))

    def to_dict(self) -> dict[str, Any]:
        """All that `make_stitch` takes, for a recipe."""
        return {"source": self.source.to_dict(), "target": self.target.to_dict(), "patch": self.patch}

    def maps(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight and bias of the map of positions and, where there is one, of that of prefix tokens."""
        layers = (self.channels,) if self.prefix is None else (self.channels, self.prefix)
        return [(layer.weight, layer.bias) for layer in layers if layer.bias is not None]


class PaperStitch(Stitch):
    """The stitch of DeRy's authors, as in their code: a norm of the incoming channels, a convolution without bias whose
    stride is its side `patch`, LeakyReLU(0.1). The norm is BatchNorm, from tokens to tokens LayerNorm over channels.

    Differs from the paper: theirs knows no other change of grids, and no prefix tokens; here, as in `Stitch`, a grid is
    pooled in front of the convolution or interpolated behind the activation, and prefix tokens are a linear map of the
    pooled source.
    """

    def __init__(self, source: Layout, target: Layout, patch: int = 1):
        super().__init__(source, target, patch)
        self.channels = nn.Conv2d(source.channels, target.channels, patch, patch, bias=False)
        among_tokens = source.kind == target.kind == "tokens"
        self.norm = nn.LayerNorm(source.channels) if among_tokens else nn.BatchNorm2d(source.channels)

    def positions(self, given: torch.Tensor) -> torch.Tensor:
        """A map [b, c, h, w] of the source -> that of the target, on its grid where that is the smaller one."""
        if isinstance(self.norm, nn.LayerNorm):
            normed = self.norm(given.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        else:
            normed = self.norm(given)
        return F.leaky_relu(super().positions(normed), 0.1)

    def to_dict(self) -> dict[str, Any]:
        """All that `make_stitch` takes, for a recipe."""
        return {**super().to_dict(), "form": "paper"}


def make_stitch(source: Layout, target: Layout, patch: int = 1, form: Form = "linear") -> Stitch:
    """A stitch of one of the forms, with weights that torch draws."""
    return {"linear": Stitch, "paper": PaperStitch}[form](source, target, patch)


def shrunk(x: torch.Tensor, target: Layout, patch: int = 1) -> torch.Tensor:
    """A map [b, c, h, w] pooled to `patch` times the target's grid, where that is smaller."""
    size = (min(x.shape[2], patch * target.height), min(x.shape[3], patch * target.width))
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def enlarged(x: torch.Tensor, target: Layout) -> torch.Tensor:
    """A map [b, c, h, w] interpolated to the target's grid."""
    size = (target.height, target.width)
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


class LinearHead(nn.Linear):
    """Global average pooling and one linear layer."""

    def __init__(self, source: Layout, num_classes: int):
        super().__init__(source.channels, num_classes)
        self.source = source

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """A batch in the source's layout -> logits [b, classes]."""
        return super().forward(self.source.pool(input))


class ReassembledNetwork(nn.Module):
    """A tree of `parts`, each of which reads the images or what another part makes, with a head at each of its tails;
    the tails' logits are added up by weights: images [b, 3, h, w] -> logits [b, classes]. A chain has one tail.

    `recipe` tells what they are; keys of the state_dict begin with its names: `resnet_1_2.layer1.0.conv1.weight`,
    `stitch_1.channels.weight`, `head.weight`, of several tails `head_1.weight`. Roots that expect other images than
    the recipe's prepare them for themselves.
    """

    def __init__(self, parts: Iterable[nn.Module], heads: Iterable[nn.Module], recipe: "Reassembled"):
        super().__init__()
        self.recipe = recipe
        for name, part in zip(recipe.names, parts, strict=True):
            self.add_module(name, part)
        for name, head in zip(recipe.head_names, heads, strict=True):
            self.add_module(name, head)
        inputs = recipe.inputs.items()
        self.images = nn.ModuleDict({root: Adapter(own, recipe.input) for root, own in inputs if own != recipe.input})

    @property
    def parts(self) -> list[nn.Module]:
        """Blocks and stitches, in order."""
        return [getattr(self, name) for name in self.recipe.names]

    @property
    def heads(self) -> list[nn.Module]:
        """The heads of the tails, in order."""
        return [getattr(self, name) for name in self.recipe.head_names]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] -> logits [b, classes]. Raises BrickyardError where tails do not give as many."""
        weights = [tail.weight for tail in self.recipe.tails]
        logits = self.tails(x)
        if weights == [1.0]:
            return logits[0]
        if len({own.shape for own in logits}) > 1:
            named = zip(self.recipe.head_names, logits, strict=True)
            told = ", ".join(f"{own.shape[1]} of {name}" for name, own in named)
            raise BrickyardError(f"its tails know other classes than each other: logits are {told}")
        return sum((weight * own for weight, own in zip(weights, logits, strict=True)), torch.zeros_like(logits[0]))

    def tails(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The logits of each tail, [b, classes], before they are added up. What a part makes is kept until its last
        reader has run.
        """
        made, found = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        for step in self.recipe.steps:
            if step.after is None:
                x = self.images[step.name](images) if step.name in self.images else images
            else:
                x = made.pop(step.after) if step.last else made[step.after]
            x = getattr(self, step.name)(x)
            found |= {head: getattr(self, head)(x) for head in step.heads}
            if step.read:
                made[step.name] = x
        return [found[name] for name in self.recipe.head_names]

    def new_parameters(self) -> list[nn.Parameter]:
        """The parameters of stitches and heads, which learn in the frozen protocol."""
        new = [part for part in self.parts if isinstance(part, Stitch)]
        return [parameter for module in (*new, *self.heads) for parameter in module.parameters()]


class Parallel(nn.Module):
    """Networks that see the same image and whose logits stand side by side, in their order.

    No zeros are stored or multiplied, and no architecture has to agree. inputs: what each of them expects; a branch
    that expects other images than `given` prepares them for itself.
    """

    def __init__(self, networks: Sequence[nn.Module], inputs: Sequence[Input], given: Input):
        super().__init__()
        self.branches = nn.ModuleList(
            network.eval() if own == given else Prepared(network, own, given)
            for network, own in zip(networks, inputs, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] -> logits [b, sum of outputs]."""
        return torch.cat([branch(x) for branch in self.branches], 1)
