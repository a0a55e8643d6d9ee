"""Component masks: which channels of a network a class needs (MDA, contribution aggregation and allocation)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float64

from ...base.errors import BrickyardError
from ...channels.channels import Coupling
from ...params.contributions import Threshold

Thresholds = Mapping[Literal["conv", "linear"], Threshold]
_HIGHEST = 0.99  # of a threshold: the strongest channel of each layer, 1, always exceeds it


def relative(values: Float[torch.Tensor, "*rest n"]) -> Float[torch.Tensor, "*rest n"]:
    """Min-max normalised along the last dimension, [..., n] -> [..., n] in [0, 1].

    Differs from the paper, whose quotient is 0/0 where all values are equal, a single input channel among them:
    there, positive values count as 1, zeros as 0. Its code adds 1e-5 to the denominator, which makes all of small
    values 0.
    """
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    scaled = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(high > low, scaled, (values > 0).to(values.dtype))


def scaled(thresholds: Thresholds, factor: float) -> Thresholds:
    """All thresholds times `factor`, below 1."""
    return {
        kind: Threshold(alpha=min(_HIGHEST, t.alpha * factor), beta=min(_HIGHEST, t.beta * factor))
        for kind, t in thresholds.items()
    }


@dataclass(frozen=True)
class Evidence:
    """What speaks for the channels of a network, by class.

    either soft: output -> layer name -> soft relative contributions [O, I] in [0, 1]; or scores: output -> float
    [channels], high for channels that its class needs; binary: whether a contribution above alpha counts as 1, or as
    what it is.
    """

    coupling: Coupling
    soft: Mapping[int, Mapping[str, Float[torch.Tensor, "_ _"]]] = field(default_factory=dict)
    scores: Mapping[int, Float[torch.Tensor, " channels"]] = field(default_factory=dict)
    binary: bool = True

    def margins(self, output: int, thresholds: Thresholds) -> Float64[torch.Tensor, " channels"]:
        """How far above its threshold beta every channel is for the class of `output`, [channels]; kept are those > 0.

        Walks from the logits to the images. The hard relative contributions of a layer are 1 (or its soft ones) where
        the soft ones exceed alpha, else 0; a layer's votes for its inputs are their sum over the outputs that the
        layers after it want so far. A channel's votes from all its readers add up; they are normalised within its
        stream, the channels that the same layers make, and have to exceed beta there: of convolutions if one of them
        reads the stream, else of linear layers. On networks without branches this is the paper's walk.

        Differs from the paper, which does not say what happens where streams meet, and whose code leaves shortcuts
        out. Layers whose outputs are tied to their inputs (depthwise, grouped) do not vote for themselves.
        """
        votes = self._votes(output, thresholds) if output in self.soft else self.scores[output].double()
        return self._margins(votes, output, thresholds)

    def _votes(self, output: int, thresholds: Thresholds) -> torch.Tensor:
        votes = torch.zeros(self.coupling.count, dtype=torch.float64)
        for layer in reversed(self.coupling.layers):
            if layer.name not in self.soft[output]:
                continue
            wanted = self._margins(votes, output, thresholds)[list(layer.outputs)] > 0
            soft = self.soft[output][layer.name]
            above = soft > thresholds[layer.kind].alpha
            hard = above.double() if self.binary else soft * above
            votes.index_add_(0, torch.tensor(layer.inputs), hard[wanted].sum(0).double())
        return votes

    def _margins(self, votes: torch.Tensor, output: int, thresholds: Thresholds) -> torch.Tensor:
        beta = torch.where(self._convolved, thresholds["conv"].beta, thresholds["linear"].beta)
        margins = _relative_within(votes, self._stream) - beta
        logits = torch.tensor(self.coupling.classifier.outputs)
        margins[logits] = -1.0
        margins[[*self.coupling.fixed, int(logits[output])]] = 1.0
        return margins

    @cached_property
    def _stream(self) -> torch.Tensor:
        """The number of every channel's stream, int64 [channels]; one more for channels that no layer makes."""
        stream = torch.full((self.coupling.count,), len(self.coupling.streams))
        for number, channels in enumerate(self.coupling.streams):
            stream[list(channels)] = number
        return stream

    @cached_property
    def _convolved(self) -> torch.Tensor:
        """Whether a convolution reads any channel of a channel's stream, bool [channels]."""
        read = torch.zeros(len(self.coupling.streams) + 1, dtype=torch.bool)
        for layer in self.coupling.layers:
            if layer.kind == "conv":
                read[self._stream[list(layer.inputs)]] = True
        return read[self._stream]


def _relative_within(values: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
    """`relative`, float64 [channels], within each stream."""
    empty = torch.zeros(int(stream.max()) + 1, dtype=values.dtype)
    low, high = (empty.scatter_reduce(0, stream, values, which, include_self=False) for which in ("amin", "amax"))
    low, high = low[stream], high[stream]
    between = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(high > low, between, (values > 0).to(values.dtype))


def check(coupling: Coupling, kept: Bool[torch.Tensor, " channels"], who: str, thresholds: Thresholds) -> None:
    """Raises BrickyardError naming a layer of which nothing is kept; kept: bool [channels]; who: network and class."""
    for layer in coupling.layers:
        if not kept[list(layer.outputs)].any():
            conv, linear = thresholds["conv"], thresholds["linear"]
            raise BrickyardError(
                f"{who} keeps no channel of layer {layer.name} at contributions.conv alpha {conv.alpha}, beta "
                f"{conv.beta} and linear alpha {linear.alpha}, beta {linear.beta}: nothing that is kept needs it; "
                "lower them, train the network longer or leave it out of contributions.models"
            )


def masks(
    evidence: Evidence, classes: Sequence[str], thresholds: Thresholds, name: str
) -> dict[str, Bool[torch.Tensor, "classes _"]]:
    """Layer name -> component masks of all classes, bool [classes, channels], the classifier's last and one-hot.

    Raises BrickyardError naming the network `name`, the class and the layer where one would be empty.
    """
    coupling = evidence.coupling
    rows = [evidence.margins(c, thresholds) > 0 for c in range(len(classes))]
    for row, who in zip(rows, classes, strict=True):
        check(coupling, row, f"{name}: class {who!r}", thresholds)
    kept = torch.stack(rows)
    return {layer.name: kept[:, list(layer.outputs)] for layer in coupling.layers}


def table(masks: Mapping[str, Bool[torch.Tensor, "classes _"]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a class and layer: its channels and how many of them are kept; the classifier is left out."""
    return [
        {"class": name, "layer": layer, "channels": mask.shape[1], "kept": int(mask[c].sum())}
        for c, name in enumerate(classes)
        for layer, mask in list(masks.items())[:-1]
    ]


def shares(masks: Mapping[str, Bool[torch.Tensor, "classes _"]]) -> dict[str, float]:
    """Layer name -> share of its channels that a class keeps, mean over classes; the classifier is left out."""
    return {name: mask.float().mean().item() for name, mask in list(masks.items())[:-1]}


def overall(masks: Mapping[str, Bool[torch.Tensor, "classes _"]]) -> float:
    """Share of all channels that a class keeps, mean over classes; the classifier is left out."""
    kept = torch.cat(list(masks.values())[:-1], 1)
    return kept.float().mean().item()
