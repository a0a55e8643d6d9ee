"""The chart of what a budget buys: predicted score against one kind of cost; SVG text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .figures import INK, MUTED, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frontier(points: Sequence[Mapping[str, Any]], size: float, limit: float | None, what: str) -> str:
    """A step line through {cost, score, within_budget}, costs in ascending order and shown in units of `size`: the best
    score that each budget can buy; hollow beyond `limit`, a dashed line; `what`: the cost's name with its unit.
    """

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.grid(True)
        x, y = [point["cost"] / size for point in points], [point["score"] for point in points]
        axes.step(x, y, where="post", color=MUTED, linewidth=1.1)
        for point, cost, score in zip(points, x, y, strict=True):
            face = PALETTE[0] if point["within_budget"] else "none"
            axes.plot(cost, score, marker="o", markersize=5.5, color=PALETTE[0], markerfacecolor=face)
        if limit is not None:
            axes.axvline(limit / size, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            place = axes.get_xaxis_transform()
            axes.text(limit / size, 1.01, "budget", transform=place, ha="center", va="bottom", fontsize=8.5)
        costs = [*x, *([] if limit is None else [limit / size])]
        if max(costs) > 12 * min(costs) > 0:
            axes.set_xscale("log")
        axes.margins(0.08, 0.12)
        axes.set_xlabel(what)
        axes.set_ylabel("predicted score")
        axes.spines[["top", "right"]].set_visible(False)

    return draw(paint, 3.6, 2.7)
