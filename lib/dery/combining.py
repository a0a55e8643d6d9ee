"""How the logits of a network's tails are combined: by their mean, or stacked, and then folded into its heads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional as F

from ..base.errors import BrickyardError
from ..fit import stacking
from ..fit.exact import exact
from ..fit.stacking import Stacked
from ..network.modules import ReassembledNetwork
from ..network.parts import Stacking
from ..network.reassembled import Reassembled
from ..trace.duplicate import duplicate
from ..trace.watching import around, arriving, order

Judged = tuple[float, float]  # accuracy in percent, and likelihood
COLUMNS = 512  # logits an image of all tails; of more, maps are not fitted
CLOSE = 1e-4  # of the greatest sum of what maps add up, which may cancel: what folding may change


def judge(logits: Float[torch.Tensor, "n classes"], labels: Int64[torch.Tensor, " n"]) -> tuple[float, float]:
    """Accuracy in percent, and mean log-likelihood of the labels in nats."""
    right = int((logits.argmax(1) == labels).sum())
    return 100 * right / len(labels), -float(F.cross_entropy(logits.double(), labels))


@dataclass(frozen=True)
class Combiner:
    """Says on labelled images what a set of tails is worth, each by its logits on these, [n, classes].

    labels: of the images, [n].
    prior: of the maps of stacking; None: the mean of the logits is all that is tried.
    """

    labels: Int64[torch.Tensor, " n"]
    prior: float | None

    def best(
        self, tails: Sequence[Float[torch.Tensor, "n c"]], stackable: bool, known: bool = False
    ) -> tuple[Judged, Stacked | None]:
        """The mean, None, or the maps where these are better on images that have not fitted them.

        stackable: whether maps can be folded into all of their heads.
        known: whether these labels have fitted the heads, so that what the mean is worth on them is no measure: then
            there are maps where there may be.
        """
        logits = torch.stack(list(tails))
        plain = judge(logits.mean(0), self.labels)
        if not self.tried(len(tails) * logits.shape[2], stackable):
            return plain, None
        assert self.prior is not None
        stacked = judge(stacking.out_of_fold(logits, self.labels, self.prior), self.labels)
        if stacked[0] <= plain[0] and not known:
            return plain, None
        return stacked, stacking.stack(logits, self.labels, self.prior)

    def tried(self, columns: int, stackable: bool) -> bool:
        """Whether maps of so many logits an image are fitted."""
        return self.prior is not None and stackable and columns <= COLUMNS


@torch.no_grad()
def spoken(network: ReassembledNetwork, recipe: Reassembled, x: torch.Tensor) -> Float[torch.Tensor, "t n c"]:
    """The logits of a network's tails, each times its weight and their number: their mean is what it answers; on the
    CPU, wherever the network is.
    """
    weights = torch.tensor([len(recipe.tails) * tail.weight for tail in recipe.tails])
    return torch.stack(network.tails(x.clone())).cpu() * weights[:, None, None]


@torch.no_grad()
def is_stackable(network: ReassembledNetwork, x: torch.Tensor) -> bool:
    """Whether every head ends in a layer that maps can become part of; x: an image or more."""
    given = zip(network.heads, arriving(network, network.heads, x), strict=True)
    return all(last_layer(head, one) is not None for head, one in given)


@torch.no_grad()
def last_layer(head: nn.Module, x: torch.Tensor) -> nn.Linear | None:
    """The linear layer of a head that gives the logits of what reaches it, if there is one with a bias."""
    wanted = head(x.clone())
    for name in order(head, x, lambda layer: isinstance(layer, nn.Linear)):
        layer = head.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if layer.bias is not None and "weight" in layer._parameters:
            said = around(head, layer, x)[1]
            if said.shape == wanted.shape and torch.equal(said, wanted):
                return layer
    return None


@torch.no_grad()
def folded(
    network: ReassembledNetwork, recipe: Reassembled, by: Stacked, x: torch.Tensor
) -> tuple[ReassembledNetwork, Reassembled]:
    """The same network with maps of what `spoken` gives in the last layers of its heads, checked on images x, and its
    recipe. Its other modules are those of the network that is given.
    """
    before = spoken(network, recipe, x)
    heads = [duplicate(head) for head in network.heads]
    for head, map_, given in zip(heads, by.maps, arriving(network, network.heads, x), strict=True):
        layer = last_layer(head, given)
        if layer is None:
            raise BrickyardError(f"{recipe.words}: a head has no last linear layer to put stacking into; please report")
        change = len(heads) * map_.T
        weight, bias = (change @ exact(own).cpu() for own in (layer.weight, layer.bias))
        bias = bias + by.offset
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    told = Stacking(by.images, by.ridge)
    recipe = replace(recipe, tails=tuple(replace(tail, stacked=told) for tail in recipe.tails))
    made = ReassembledNetwork(network.parts, heads, recipe).eval()
    wanted, found = by(before), made(x.clone()).cpu()
    scale = float(torch.einsum("tnc,tcd->nd", before.double().abs(), by.maps.abs()).max() + by.offset.abs().max())
    if not float((found - wanted).abs().max()) <= CLOSE * scale:  # so that NaN is an error, too
        raise BrickyardError(f"{recipe.words}: stacking changed in its heads by more than rounding; please report this")
    return made, recipe
