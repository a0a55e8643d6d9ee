"""Finished networks counted anew, before they are written: what was predicted must be what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...base.errors import BrickyardError
from ...chain.layout import Layout
from ...network.modules import ReassembledNetwork
from ...network.reassembled import Reassembled
from ...trace import cost
from ...trace.cost import Cost
from ..paths.tables import Kind
from .material import Bricks
from .prices import stitch_cost
from .ranking import Ranked

COUNTED: tuple[Kind, ...] = ("params", "macs", "memory")  # latency is measured, not counted


def recount(
    name: str,
    network: ReassembledNetwork,
    recipe: Reassembled,
    bricks: Bricks,
    predicted: Mapping[Kind, float],
    limits: Mapping[Kind, float],
    at_least: Mapping[Kind, float] | None = None,
) -> Cost:
    """The cost of a finished network, counted.

    name: by which an error calls it.
    network, recipe: what was made of `bricks`.
    predicted: what its pick was priced at, stitches in their dearest form.
    limits, at_least: upper and lower ones that hold for it.

    Raises BrickyardError where it has other parameters or MACs than predicted (with the forms that its stitches were
    given), needs more memory, exceeds a limit or has less parameters or MACs than it should. Of memory an upper bound
    is predicted, for which the lower limit holds.
    """
    counted = cost.count(network, recipe.input.shape)
    less = _chosen(bricks, recipe)
    for kind in COUNTED:
        found, expected = getattr(counted, kind), predicted[kind] - less.get(kind, 0)
        limit, least = limits.get(kind), (at_least or {}).get(kind)
        outside = (limit is not None and found > limit) or (least is not None and kind != "memory" and found < least)
        if outside or found > expected or (found < expected and kind != "memory"):
            within = "" if limit is None else f"; assembly.budget.{kind} is {limit:,.0f}"
            within += "" if least is None else f"; assembly.budget.at_least.{kind} is {least:,.0f}"
            raise BrickyardError(
                f"{name} ({recipe.words}) has {found:,} {kind} when it is counted, "
                f"{expected:,.0f} were predicted{within}; please report this with params.yaml and partition.json"
            )
    return counted


def finished(
    bricks: Bricks,
    ranked: Sequence[Ranked],
    limits: Mapping[Kind, float],
    at_least: Mapping[Kind, float] | None = None,
) -> list[Ranked]:
    """The same candidates, those that keep their networks with their counted cost. Raises as `recount`."""
    return [
        one
        if one.made is None
        else replace(one, counted=recount(f"r{place}", *one.made, bricks, one.candidate.cost, limits, at_least))
        for place, one in enumerate(ranked, start=1)
    ]


def _chosen(bricks: Bricks, recipe: Reassembled) -> dict[Kind, int]:
    """How much less stitches need in the form that the fit chose than in the dearest, which was priced."""
    found: dict[Kind, int] = {"params": 0, "macs": 0}
    for part in recipe.parts:
        if part["kind"] == "stitch":
            source, target = Layout(**part["source"]), Layout(**part["target"])
            dearest = stitch_cost(source, target, max(bricks.patches(source, target)), bricks.form)
            chosen = stitch_cost(source, target, part["patch"], bricks.form)
            found["params"] += dearest.params - chosen.params
            found["macs"] += dearest.macs - chosen.macs
    return found
