"""Assembly: components side by side in one network of the same architecture (MDA, alignment padding, section 3.2)."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from lib import cost, graph, zoo
from lib.cost import Cost
from lib.coupling import couple
from lib.errors import BrickyardError
from lib.mda import components, scaling

_STATISTICS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Recipe:
    """How an assembled network is built: the recipes of its parts, in the order of their outputs.

    factors: what each output was multiplied by; sha256: the checksum of the assembled weights.
    """

    parts: dict[str, components.Recipe]
    factors: tuple[float, ...]
    cost: Cost
    sha256: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        return tuple(name for part in self.parts.values() for name in part.classes)

    @property
    def spans(self) -> list[range]:
        """The outputs of each part."""
        ends = list(itertools.accumulate(len(part.classes) for part in self.parts.values()))
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def input(self) -> zoo.Input:
        """What all parts expect."""
        return next(iter(self.parts.values())).input

    def build(self) -> nn.Module:
        """The assembled network with random weights."""
        return assemble({name: part.build() for name, part in self.parts.items()}, self.input.shape)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": "lego",
            "classes": self.classes,
            "input": asdict(self.input),
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "factors": self.factors,
            "cost": asdict(self.cost),
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, recipe: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`."""
        parts = {name: components.Recipe.from_dict(part) for name, part in recipe["parts"].items()}
        return cls(parts, tuple(recipe["factors"]), Cost(**recipe["cost"]), recipe["sha256"])


def check(parts: Mapping[str, components.Recipe]) -> None:
    """Raises BrickyardError, naming two components, where they differ in architecture or input or share a class."""
    names = list(parts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            a, b = parts[one], parts[other]
            for name in a.classes:
                if name in b.classes:
                    raise BrickyardError(
                        f"lego.components: {one} and {other} both have class {name!r}; take it from one"
                    )
            if _kind(a.architecture) != _kind(b.architecture):
                raise BrickyardError(
                    f"lego.components: {one} (from {a.source.name}) and {other} (from {b.source.name}) differ in "
                    "architecture; components are put side by side layer by layer and must have the same"
                )
            if a.input != b.input:
                raise BrickyardError(
                    f"lego.components: {one} (from {a.source.name}) and {other} (from {b.source.name}) expect "
                    f"different input: {a.input} and {b.input}; they must share the image"
                )


def build(parts: Mapping[str, nn.Module], recipes: Mapping[str, components.Recipe]) -> tuple[nn.Module, Recipe]:
    """Components by name, in the order of their outputs, -> the network that holds them all, not scaled; its recipe.

    Raises BrickyardError as `check` does.
    """
    check(recipes)
    shape = next(iter(recipes.values())).input.shape
    network = assemble(parts, shape)
    classes = sum(len(recipe.classes) for recipe in recipes.values())
    return network, Recipe(dict(recipes), (1.0,) * classes, cost.count(network, shape))


def scaled(network: nn.Module, recipe: Recipe, factors: Sequence[float]) -> tuple[nn.Module, Recipe]:
    """A copy of an assembled network whose outputs are multiplied by `factors`, and its recipe."""
    classifier = couple(graph.trace(network, "lego", recipe.input.shape), "lego").classifier.name
    by = tuple(old * new for old, new in zip(recipe.factors, factors, strict=True))
    return scaling.scale(network, classifier, factors), replace(recipe, factors=by)


def side_by_side(
    recipe: Recipe, logits: Mapping[str, torch.Tensor], classes: Mapping[str, Sequence[str]]
) -> torch.Tensor:
    """The control: logits [n, outputs] of the whole sources, restricted to the assembled classes, in their order.

    logits: source name -> [n, its classes]; classes: source name -> names of these.
    """
    columns = []
    for part in recipe.parts.values():
        known = list(classes[part.source.name])
        columns.append(logits[part.source.name][:, [known.index(name) for name in part.classes]])
    return torch.cat(columns, 1)


def assemble(parts: Mapping[str, nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """One network whose logits [b, sum of outputs] are those of `parts` side by side, in their order.

    The first layer's filters stand one under another and share the image; every later layer is block-diagonal, with
    zero kernels for the channels of the other parts; BatchNorm's vectors are concatenated. The parts, single-path
    networks of one architecture with channels of their own, are not changed.
    """
    name, first = next(iter(parts.items()))
    coupling = couple(graph.trace(first, name, shape), name)
    if not coupling.is_plain:
        raise BrickyardError(
            f"lego.components: {name}: so far only networks whose layers follow one another in one line can be put "
            "side by side"
        )
    assembled = copy.deepcopy(first).eval()
    others = [dict(part.named_modules()) for part in parts.values()]
    for path, module in assembled.named_modules():
        try:
            same = [modules[path] for modules in others]
        except KeyError:
            raise BrickyardError(f"lego.components: not all of {', '.join(parts)} have a module {path}") from None
        if isinstance(module, nn.Conv2d | nn.Linear):
            _join_layer(module, same, shared_input=path == coupling.layers[0].name)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            _join_statistics(module, same)
        elif any(True for _ in module.parameters(recurse=False)):
            raise BrickyardError(
                f"{name}: {path} ({type(module).__name__}) has weights that cannot be put side by side"
            )
    return assembled


def _kind(architecture: zoo.Architecture) -> tuple[Any, ...]:
    """An architecture without the number of its classes."""
    return architecture.timm, architecture.torchvision, architecture.factory, architecture.sha256, architecture.kwargs


def _join_layer(layer: Any, parts: Sequence[Any], shared_input: bool) -> None:
    """Turns `layer` into the parts side by side: weights [sum O, sum I, ...], or [sum O, I, ...] on a shared input."""
    weights = [part.weight.detach() for part in parts]
    layer.weight = nn.Parameter(torch.cat(weights) if shared_input else _block_diagonal(weights))
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    else:
        layer.out_features, layer.in_features = layer.weight.shape


def _block_diagonal(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    rows, columns = sum(w.shape[0] for w in weights), sum(w.shape[1] for w in weights)
    joined = weights[0].new_zeros(rows, columns, *weights[0].shape[2:])
    row = column = 0
    for weight in weights:
        joined[row : row + weight.shape[0], column : column + weight.shape[1]] = weight
        row, column = row + weight.shape[0], column + weight.shape[1]
    return joined


def _join_statistics(layer: Any, parts: Sequence[Any]) -> None:
    for key in _STATISTICS:
        if getattr(layer, key) is not None:
            joined = torch.cat([getattr(part, key).detach() for part in parts])
            setattr(layer, key, nn.Parameter(joined) if key in ("weight", "bias") else joined)
    layer.num_features = sum(part.num_features for part in parts)
