"""Finished networks counted anew, before they are written: what was predicted must be what is there."""

from collections.abc import Sequence
from dataclasses import replace

from ...base.errors import BrickyardError
from ...chain.layout import Layout
from ...network.modules import ReassembledNetwork
from ...network.reassembled import Reassembled
from ...trace import cost
from ...trace.cost import Cost
from ..paths.problem import AssemblyProblem, Kind, Path
from .material import Bricks
from .prices import stitch_cost
from .ranking import Ranked

COUNTED: tuple[Kind, ...] = ("params", "macs", "memory")  # latency is measured, not counted


def recount(
    name: str,
    network: ReassembledNetwork,
    recipe: Reassembled,
    bricks: Bricks,
    problem: AssemblyProblem,
    path: Path,
    limited: bool = True,
) -> Cost:
    """The cost of a finished network, counted.

    limited: whether the limits of the problem hold for it. Raises BrickyardError naming `name` where it has other
    parameters or MACs than its path was priced at (with the forms that its stitches were given), needs more memory, or
    exceeds a limit.
    """
    counted = cost.count(network, recipe.input.shape)
    predicted = problem.price(path)
    for kind, less in _chosen(bricks, recipe).items():
        predicted[kind] -= less
    for kind in COUNTED:
        found, expected = getattr(counted, kind), predicted[kind]
        limit = problem.limits.get(kind) if limited else None
        if found > expected or (found < expected and kind != "memory") or (limit is not None and found > limit):
            within = "" if limit is None else f"; assembly.budget.{kind} is {limit:,.0f}"
            raise BrickyardError(
                f"{name} ({' > '.join(recipe.blocks())}) has {found:,} {kind} when it is counted, {expected:,.0f} were "
                f"predicted{within}; please report this with params.yaml and partition.json"
            )
    return counted


def finished(bricks: Bricks, problem: AssemblyProblem, ranked: Sequence[Ranked]) -> list[Ranked]:
    """The same candidates, those that keep their networks with their counted cost. Raises as `recount`."""
    return [
        one
        if one.made is None
        else replace(one, counted=recount(f"r{place}", *one.made, bricks, problem, one.candidate.path))
        for place, one in enumerate(ranked, start=1)
    ]


def _chosen(bricks: Bricks, recipe: Reassembled) -> dict[Kind, int]:
    """How much less stitches need in the form that the fit chose than in the dearest, which was priced."""
    found: dict[Kind, int] = {"params": 0, "macs": 0}
    for part in recipe.parts:
        if part["kind"] == "stitch":
            source, target = Layout(**part["source"]), Layout(**part["target"])
            dearest = stitch_cost(source, target, max(bricks.patches(source, target)))
            chosen = stitch_cost(source, target, part["patch"])
            found["params"] += dearest.params - chosen.params
            found["macs"] += dearest.macs - chosen.macs
    return found
