"""The charts of the page: accuracy against cost, learning curves, kept channels by layer; SVG text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from .figures import INK, MUTED, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, Transform

Kind = Literal["own", "closed form", "untrained", "frozen", "full", "stacked", "scratch"]
MARKERS: dict[str, str] = {
    **{"own": "s", "closed form": "s"},
    **{"untrained": "o", "frozen": "^", "full": "o", "stacked": "D", "scratch": "x"},
}
HOLLOW = ("closed form", "untrained")
TUNED = ("untrained", "frozen", "full", "stacked")  # in the order in which a candidate goes through them


@dataclass(frozen=True)
class Dot:
    """A network in the scatter plot; kind: the head of a zoo network, the protocol of another; rank: its r."""

    name: str
    x: float
    accuracy: float
    kind: Kind
    rank: int | None = None

    @property
    def colour(self) -> str:
        """Grey for the zoo, else by rank."""
        return MUTED if self.rank is None else PALETTE[(self.rank - 1) % len(PALETTE)]


def scatter(dots: Sequence[Dot], limit: float | None, what: str) -> str:
    """Accuracy in percent against a cost; `limit`: the budget, a dashed line; `what`: the cost's name with its unit.

    The dots of one reassembled network are joined; networks that cost the same are moved apart a little. A name that
    finds no free place is left out.
    """
    shifts = _shifts(dots)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.grid(True)
        xs = [dot.x for dot in dots] + ([limit] if limit else [])
        if max(xs) > 12 * min(xs):
            axes.set_xscale("log")
        places = {rank: axes.transData + _moved(figure, shift) for rank, shift in shifts.items()}
        for rank in sorted({dot.rank for dot in dots if dot.rank is not None}):
            line = [dot for kind in TUNED for dot in dots if dot.rank == rank and dot.kind == kind]
            x, y = [dot.x for dot in line], [dot.accuracy for dot in line]
            axes.plot(x, y, color=line[0].colour, linewidth=1, alpha=0.5, transform=places[rank])
        for dot in dots:
            face = "none" if dot.kind in HOLLOW else dot.colour
            style = {"marker": MARKERS[dot.kind], "markersize": 6.5, "markeredgewidth": 1.4, "linestyle": "none"}
            place = places.get(dot.rank, axes.transData)
            axes.plot(dot.x, dot.accuracy, color=dot.colour, markerfacecolor=face, alpha=0.9, transform=place, **style)
        if limit:
            axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.update_datalim([(x, dot.accuracy) for x in xs for dot in dots])
        axes.margins(0.1, 0.12)
        axes.autoscale_view()
        axes.set_xlabel(what)
        axes.set_ylabel("accuracy, %")
        axes.spines[["top", "right"]].set_visible(False)
        if limit:
            axes.text(
                limit, 1.01, "budget", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8.5
            )
        last = {dot.rank: dot for kind in TUNED for dot in dots if dot.kind == kind}
        named = [dot for dot in dots if dot.rank is None or last[dot.rank] == dot]
        _label(figure, axes, dots, named, shifts, limit)

    return draw(paint, 4.7, 3.5)


CURVES = {  # network: marker, line, colour, what it is called
    "reassembled": ("o", "-", PALETTE[0], "reassembled"),
    "zoo": ("s", "-", PALETTE[1], "best zoo network"),
    "scratch": ("x", "--", MUTED, "from scratch"),
}


def curves(rows: Sequence[Mapping[str, Any]], name: str, bottom: float) -> str:
    """Validation accuracy and loss by epoch: a reassembled network beside itself from scratch and a zoo network.

    rows: {network: one of CURVES, protocol, epoch, loss, validation_accuracy}; bottom: where the accuracy axis begins,
    for panels to be compared. A dotted line ends the frozen protocol.
    """

    from matplotlib.ticker import MaxNLocator

    def paint(figure: "Figure") -> None:
        above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        for network, (marker, line, colour, called) in CURVES.items():
            own = [row for row in rows if row["network"] == network]
            shape: dict[str, Any] = {"marker": marker if len(own) <= 40 else "", "markersize": 4, "linewidth": 1.4}
            for axes, key in ((above, "validation_accuracy"), (below, "loss")):
                known = [row for row in own if row[key] is not None]
                if known:
                    x, y = [row["epoch"] for row in known], [row[key] for row in known]
                    axes.plot(x, y, linestyle=line, color=colour, label=called, **shape)
        frozen = [row["epoch"] for row in rows if row["protocol"] == "frozen"]
        for axes in (above, below):
            axes.grid(True)
            axes.spines[["top", "right"]].set_visible(False)
            if frozen:
                axes.axvline(max(frozen) + 0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        above.set_ylim(bottom, 100 + 0.03 * (100 - bottom))
        above.set_ylabel("validation accuracy, %")
        below.set_ylabel("train loss")
        below.set_xlabel("epoch")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        above.set_title(name, fontsize=11, fontweight="bold", loc="left")
        below.legend(loc="upper center", bbox_to_anchor=(0.46, -0.48), ncol=3, columnspacing=1.1, fontsize=8.5)
        figure.align_ylabels()

    return draw(paint, 4.4, 4.0)


@dataclass(frozen=True)
class Profile:
    """Shares of kept channels in [0, 1] by layer, image to classifier: over classes, and of each component."""

    layers: tuple[str, ...]
    mean: tuple[float, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]
    components: Mapping[str, tuple[float, ...]]


def profile(kept: Profile, name: str) -> str:
    """The kept share of channels, layer by layer, of one network that has been taken apart."""

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.grid(True, axis="y")
        x = range(len(kept.layers))
        axes.fill_between(x, _percent(kept.least), _percent(kept.most), color=PALETTE[0], alpha=0.22, linewidth=0)
        axes.plot(x, _percent(kept.mean), color=PALETTE[0], marker="o", markersize=4, label="one class (mean, range)")
        for i, (component, shares) in enumerate(kept.components.items(), start=1):
            colour = PALETTE[i % len(PALETTE)]
            label = f"component {component}" if len(component) <= 24 else f"component {component[:23]}…"
            axes.plot(x, _percent(shares), color=colour, marker="s", markersize=3.5, label=label if i <= 4 else None)
        step = ceil(len(kept.layers) / 12)
        axes.set_xticks(list(x)[::step], kept.layers[::step], rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", labelsize=8)
        axes.set_ylim(0, 104)
        axes.set_ylabel("channels kept, %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(name, fontsize=11, fontweight="bold", loc="left")
        axes.legend(loc="best", fontsize=8.5)

    return draw(paint, 4.4, 3.0)


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _shifts(dots: Sequence[Dot]) -> dict[int | None, float]:
    """Points by which the dots of each rank are moved to the side, where several ranks cost the same."""
    shared: dict[float, list[int]] = {}
    for dot in dots:
        if dot.rank is not None and dot.rank not in shared.setdefault(dot.x, []):
            shared[dot.x].append(dot.rank)
    gap = 9
    return {rank: gap * (i - (len(ranks) - 1) / 2) for ranks in shared.values() for i, rank in enumerate(sorted(ranks))}


def _moved(figure: "Figure", points: float) -> "Transform":
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _label(
    figure: "Figure",
    axes: "Axes",
    dots: Sequence[Dot],
    named: Sequence[Dot],
    shifts: Mapping[int | None, float],
    limit: float | None,
) -> None:
    """Writes names beside their dots, or further off with a line to them, where they cover no dot, name or line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    frame: Bbox = axes.get_window_extent(renderer)
    scale = figure.dpi / 72
    pixels = {dot: axes.transData.transform((dot.x, dot.accuracy)) for dot in dots}
    for dot in dots:
        pixels[dot][0] += scale * shifts.get(dot.rank, 0)
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in pixels.values()]
    for rank in {dot.rank for dot in dots if dot.rank is not None}:
        line = [pixels[dot] for dot in dots if dot.rank == rank]
        taken.append(Bbox([[line[0][0] - 1, min(y for _, y in line)], [line[0][0] + 1, max(y for _, y in line)]]))
    if limit:
        at = axes.transData.transform((limit, 0))[0]
        taken.append(Bbox([[at - 2, frame.y0], [at + 2, frame.y1]]))
    places = [(7, 0), (-7, 0), (0, 6), (0, -6), (6, 5), (-6, 5), (6, -5), (-6, -5)]
    places += [(far * x, far * y) for far in (16, 28, 40) for x in (1, -1) for y in (-0.7, 0.7, 0)]
    for dot in sorted(named, key=lambda d: d.rank is None):  # the reassembled first
        for dx, dy in places:
            text = axes.annotate(
                dot.name,
                (dot.x, dot.accuracy),
                (dx + shifts.get(dot.rank, 0), dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                color=dot.colour if dot.rank is not None else INK,
                fontweight="bold" if dot.rank is not None else "normal",
                fontsize=8.5,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 4} if abs(dx) > 7 else None,
            )
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without the line
            if box.count_overlaps(taken) == 0 and _inside(frame.padded(8), box):
                taken.append(box)
                break
            text.remove()


def _inside(frame: "Bbox", box: "Bbox") -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
