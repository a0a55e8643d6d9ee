"""Assembly: components side by side in one network, without training (MDA, section 3.2)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from ...base.errors import BrickyardError
from ...channels.cutting import PRECISION
from ...network.assembled import Assembled, Form, assemble, scale
from ...network.component import Component
from ...network.scaling import Scaling
from ...trace import cost
from ...trace.cost import Cost
from ...trace.duplicate import duplicate
from ...zoo.architecture import Architecture
from .. import recount


def check(parts: Mapping[str, Component], form: Form) -> None:
    """Raises BrickyardError, naming two components, where they share a class or, padded, differ in architecture or
    input.
    """
    for (one, a), (other, b) in itertools.combinations(parts.items(), 2):
        for name in a.classes:
            if name in b.classes:
                raise BrickyardError(f"lego.components: {one} and {other} both have class {name!r}; take it from one")
        if form == "parallel":
            continue
        both = f"{one} (from {a.source.name}) and {other} (from {b.source.name})"
        if _kind(a.source.architecture) != _kind(b.source.architecture):
            raise BrickyardError(
                f"lego.components: {both} differ in architecture and cannot be padded layer by layer; "
                "write lego.form: parallel"
            )
        if a.input != b.input:
            raise BrickyardError(
                f"lego.components: {both} expect different input: {a.input} and {b.input}; padded, they share the "
                "image; write lego.form: parallel"
            )


def build(parts: Mapping[str, nn.Module], recipes: Mapping[str, Component], form: Form) -> tuple[nn.Module, Assembled]:
    """Components by name, in the order of their outputs, -> the network that holds them all, not scaled; its recipe.

    Its logits are those of the components side by side. Raises BrickyardError as `check` does, and where the
    components' channels cannot be padded.
    """
    check(recipes, form)
    network = assemble(parts, recipes, form)
    nothing = Scaling.none(sum(len(recipe.classes) for recipe in recipes.values()))
    recipe = Assembled(dict(recipes), form, nothing, Cost())
    counted = cost.count(network, recipe.input.shape)
    if form == "parallel":
        recount.check("lego", sum((part.cost for part in recipes.values()), Cost()), counted)
    return network, replace(recipe, cost=counted)


def scaled(
    network: nn.Module, recipe: Assembled, by: Scaling, limits: Mapping[str, float | None] | None = None
) -> tuple[nn.Module, Assembled]:
    """A copy of an assembled network whose logits go through `by`, see `assembled.scale`, and its recipe.

    limits: on parameters and MACs of an assembly in parallel form. Raises BrickyardError where one is exceeded, and
    where the logits are not those that `by` makes.
    """
    before, network = network, scale(duplicate(network), recipe, by)
    _check_scaled(before, network, by, recipe.input.shape)
    counted = cost.count(network, recipe.input.shape)
    biases = cost.params(network) - cost.params(before)
    predicted = Cost(recipe.cost.params + biases, recipe.cost.macs)
    recount.check("lego", predicted, counted, limits if recipe.form == "parallel" else None)
    return network, replace(recipe, scaling=recipe.scaling.then(by), cost=counted)


@torch.no_grad()
def _check_scaled(network: nn.Module, scaled: nn.Module, by: Scaling, shape: tuple[int, ...]) -> None:
    """Raises BrickyardError unless the logits are those of `network` put through `by`, to float32's precision."""
    parameter = next(network.parameters())
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(parameter)
    logits = network(images.clone()).nan_to_num()
    largest = float((by(logits) - by(torch.zeros_like(logits))).abs().max()) + max(map(abs, by.offsets))
    found = scaled(images.clone()).nan_to_num()
    if not torch.allclose(found, by(logits), rtol=0, atol=PRECISION * largest + 1e-6):
        raise BrickyardError(
            "lego.scaling: scaled, the network does not give its logits times the factors, plus the offsets; write "
            "lego.scaling: none"
        )


def side_by_side(
    recipe: Assembled, logits: Mapping[str, Float[torch.Tensor, "n _"]], classes: Mapping[str, Sequence[str]]
) -> Float[torch.Tensor, "n outputs"]:
    """The control: logits [n, outputs] of the whole sources, restricted to the assembled classes, in their order.

    logits: source name -> [n, its classes]; classes: source name -> names of these.
    """
    columns = []
    for part in recipe.parts.values():
        known = list(classes[part.source.name])
        columns.append(logits[part.source.name][:, [known.index(name) for name in part.classes]])
    return torch.cat(columns, 1)


def _kind(architecture: Architecture) -> tuple[Any, ...]:
    """An architecture without the number of its classes."""
    return architecture.timm, architecture.torchvision, architecture.factory, architecture.sha256, architecture.kwargs
