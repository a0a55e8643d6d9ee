"""Networks with fewer channels inside their blocks: what crosses the cuts keeps its width (contributions of MDA)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ...base.errors import BrickyardError
from ...base.progress import track
from ...chain.chain import Chain
from ...channels.channels import Coupling
from ...channels.coupling import couple
from ...channels.cutting import cut, indices
from ...images.data import DataSet, Loader, of_classes
from ...mda.components import component
from ...mda.components.repair import repair
from ...mda.components.sizing import union
from ...mda.contributions.scores import gather
from ...network import component as recipes
from ...params.components import Repair
from ...params.contributions import Contributions
from ...trace import graph
from ...zoo.card import Card
from .material import Bricks


def narrow(
    bricks: Bricks,
    name: str,
    module: nn.Module,
    widths: Sequence[float],
    images: DataSet,
    contributions: Contributions,
    how: Repair,
) -> dict[float, tuple[nn.Module, recipes.Component]]:
    """A network with every block narrow, by width, each block repaired for itself behind what the network's own front
    gives, and its recipe.

    module: the network, in eval mode; it is left as it is.
    images: whose probe images, by class, speak for channels; how: it is repaired, on the images of the fit.

    Raises BrickyardError naming the network where no channel lies within one block, or where numbers of channels are
    written into its code, so that what is cut is no longer made of the same modules.
    """
    m = bricks.place(name)
    card, chain, cuts = bricks.cards[m], bricks.chains[m], bricks.cuts[m]
    coupling = couple(graph.trace(module, name, card.input.shape), name)
    blocks = [_layers(chain[start:stop], coupling) for start, stop in pairwise(cuts)]
    inside = [_inside(coupling, layers) for layers in blocks]
    if not any(inside):
        raise BrickyardError(f"bricks.widths: {name}: no channel lies within one block, so none can be narrow")
    strength = _strength(module, coupling, card, images, contributions, bricks.seed)
    x = torch.cat([x for x, _ in bricks.fit[m]])[: how.images]
    how = how.model_copy(update={"classifier": "logits"})
    found = {}
    for width in track(widths, f"widths of {name}", len(widths)):
        taken = [_taken(own, strength, width) for own in inside]
        state = {}
        for layers, channels in zip(blocks, taken, strict=True):
            if channels:
                kept = indices(coupling, set(range(coupling.count)) - channels)
                mended = repair(module, cut(module, kept, card.input.shape), kept, x, how, only=layers)
                state |= {key: value for key, value in mended.state_dict().items() if key.rpartition(".")[0] in layers}
        kept = indices(coupling, set(range(coupling.count)) - frozenset().union(*taken))
        made = cut(module, kept, card.input.shape)
        made.load_state_dict({**made.state_dict(), **state})
        own = Chain(name, made, card.input.shape, declared=card.nodes)
        same = [node.name for node in own.nodes] == [node.name for node in chain.nodes]
        if not same or any(own.layout(place) != chain.layout(place) for place in cuts):
            raise BrickyardError(f"bricks.widths: {name}: cut, it has other nodes, so its blocks cannot be narrow")
        outputs = range(len(card.classes))
        found[width] = (
            made,
            component.describe(f"at_{width}".replace(".", "_"), made, kept, outputs, module, card, "ridge"),
        )
    return found


def _layers(block: nn.Module, coupling: Coupling) -> frozenset[str]:
    """The layers of a block, with the norms behind them, by module path, but for those whose norm is elsewhere."""
    own = {name for name, _ in block.named_modules()}
    layers = [one for one in coupling.layers if one.name in own and (one.norm is None or one.norm in own)]
    paths = {path.rpartition(".")[0] for path in coupling.axes}
    return frozenset({one.name for one in layers} | (paths & own - {one.name for one in coupling.layers}))


def _inside(coupling: Coupling, layers: frozenset[str]) -> list[list[int]]:
    """The channels that are made and read by these layers alone, by stream."""
    outside = {*coupling.fixed, *coupling.classifier.outputs}
    for layer in coupling.layers:
        if layer.name not in layers:
            outside |= {*layer.inputs, *layer.outputs}
    for path, rows in coupling.axes.items():
        if path.rpartition(".")[0] not in layers:
            outside |= {channel for row in rows if row is not None for channel in row}
    made = {channel for layer in coupling.layers if layer.name in layers for channel in layer.outputs}
    streams = ([c for c in stream if c in made and c not in outside] for stream in coupling.streams)
    return [stream for stream in streams if len(stream) > 1]


def _strength(
    module: nn.Module, coupling: Coupling, card: Card, images: DataSet, params: Contributions, seed: int
) -> torch.Tensor:
    """How much the network's classes need each channel, [channels]: how far it is above the thresholds of section
    `contributions` for the class that needs it most, on the probe images; of a network with other classes, the norm of
    what makes it.
    """
    if not set(card.classes) <= set(images.classes):
        return gather(module, coupling, {0: ()}, params.model_copy(update={"score": "magnitude"}), seed).scores[0]
    numbers, batches = [images.classes.index(name) for name in card.classes], {}
    for output, number in enumerate(numbers):
        own = of_classes(images.images, images.probe, [number])[: params.images_per_class]
        if len(own):
            batches[output] = Loader(images.images, own, card.input.transform(), params.batch_size, numbers)
    return union(gather(module, coupling, batches, params, seed, card.name), list(batches), params.thresholds)


def _taken(streams: Sequence[Sequence[int]], strength: torch.Tensor, width: float) -> set[int]:
    """The channels that a block of this width has not; of every stream the strongest stay, one at least."""
    found = set[int]()
    for stream in streams:
        order = strength[list(stream)].argsort(descending=True, stable=True).tolist()
        found |= {stream[i] for i in order[max(1, round(width * len(stream))) :]}
    return found
