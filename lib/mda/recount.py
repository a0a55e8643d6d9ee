"""Components and assemblies counted anew, before they are written: what was predicted must be what is there."""

from collections.abc import Mapping

from torch import fx, nn

from ..base.errors import BrickyardError
from ..channels.coupling import couple
from ..channels.cutting import Kept, Scales, channels
from ..trace import cost, graph
from ..trace.cost import Cost


def check(who: str, predicted: Cost, counted: Cost, limits: Mapping[str, float | None] | None = None) -> None:
    """Raises BrickyardError naming `who` unless parameters and MACs are as predicted, and within the limits."""
    for kind in ("params", "macs"):
        expected, found, limit = getattr(predicted, kind), getattr(counted, kind), (limits or {}).get(kind)
        if found != expected or (limit is not None and found > limit):
            within = "" if limit is None else f"; its budget is {limit:,.0f}"
            raise BrickyardError(
                f"{who} has {found:,} {kind} when it is counted, {expected:,} were predicted{within}; please report "
                "this with params.yaml"
            )


def component(who: str, source: nn.Module, kept: Kept, made: nn.Module, shape: tuple[int, ...]) -> Cost:
    """The cost of a component with the `kept` channels of its source, counted; images are of `shape`.

    Raises BrickyardError as `check`, where it is not what the source's coupling says.
    """
    coupling = couple(graph.trace(source, who, shape), who)
    predicted, counted = Scales(source, coupling).cost(channels(coupling, kept)), cost.count(made, shape)
    if isinstance(made, fx.GraphModule) and counted.params < predicted.params:
        predicted = Cost(counted.params, predicted.macs)  # a graph leaves out what its source has and does not use
    check(who, predicted, counted)
    return counted
