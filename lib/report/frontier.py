"""Charts of what a budget buys: predicted score, or measured accuracy, against one kind of cost; SVG text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .figures import INK, MUTED, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = {"params": "parameters", "macs": "MACs an image", "memory": "bytes of activations", "latency": "ms a batch"}


def scaled(kind: str, largest: float) -> tuple[float, str]:
    """The size of the unit that keeps costs of a kind short, up to `largest`, and the kind's name with it."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= size and kind != "latency":
            return size, f"{UNITS[kind]}, {letter}"
    return 1, UNITS[kind]


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
        _framed(axes, [*x, *([] if limit is None else [limit / size])], what, "predicted score")

    return draw(paint, 3.6, 2.7)


SHAPES = {"chain": ("o", "reassembled"), "tree": ("^", "tree"), "whole": ("s", "whole network")}


def swept(points: Sequence[Mapping[str, Any]], size: float, what: str, images: str) -> str:
    """Measured accuracy in percent against cost, a step line through what nothing else beats in both.

    points: {form: one of SHAPES, cost, accuracy, on_front}; costs are shown in units of `size`; what: the cost's name
    with its unit; images: on which accuracy was measured.
    """

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.grid(True)
        front = sorted({(point["cost"] / size, point["accuracy"]) for point in points if point["on_front"]})
        axes.step([x for x, _ in front], [y for _, y in front], where="post", color=MUTED, linewidth=1.1)
        for i, (form, (marker, label)) in enumerate(SHAPES.items()):
            own = sorted({(point["cost"] / size, point["accuracy"]) for point in points if point["form"] == form})
            style: dict[str, Any] = {"marker": marker, "markersize": 5.5, "linestyle": "none", "alpha": 0.9}
            if own:
                axes.plot([x for x, _ in own], [y for _, y in own], color=PALETTE[i], label=label, **style)
        _framed(axes, [point["cost"] / size for point in points], what, f"{images} accuracy, %")
        axes.legend(loc="best", fontsize=8.5)

    return draw(paint, 4.7, 3.5)


def _framed(axes: "Axes", costs: Sequence[float], what: str, height: str) -> None:
    if max(costs) > 12 * min(costs) > 0:
        axes.set_xscale("log")
    axes.margins(0.08, 0.12)
    axes.set_xlabel(what)
    axes.set_ylabel(height)
    axes.spines[["top", "right"]].set_visible(False)
