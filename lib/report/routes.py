"""Decision routes (MDA, section 4): which channels a class uses, layer by layer, and what two classes share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from .figures import INK, LINE, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Masks = Mapping[str, Sequence[Sequence[bool]]]  # layer -> [classes, channels]
_LABELS = 14  # layers named under a chart, at most


@dataclass(frozen=True)
class Route:
    """The routes of two classes, by layer: shares of its channels that both use, only the first, only the second."""

    layers: tuple[str, ...]
    both: tuple[float, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def overlap(self) -> tuple[float, ...]:
        """The share of the channels that either class uses which both use, by layer."""
        found = zip(self.both, self.first, self.second, strict=True)
        return tuple(both / (both + a + b) if both + a + b else 0.0 for both, a, b in found)


def route(masks: Masks, first: int, second: int) -> Route:
    """Two classes' ways through a network, from its component masks; the classifier, listed last, is left out."""
    layers = tuple(masks)[:-1]
    rows = [[(bool(a), bool(b)) for a, b in zip(masks[x][first], masks[x][second], strict=True)] for x in layers]

    def share(wanted: tuple[bool, bool]) -> tuple[float, ...]:
        return tuple(row.count(wanted) / len(row) for row in rows)

    return Route(layers, share((True, True)), share((True, False)), share((False, True)))


def alike(masks: Masks) -> list[tuple[int, int]]:
    """The two classes that share most, and the two that share least, if they are not the same; by mean overlap."""
    shared = []
    for rows in list(masks.values())[:-1]:
        used = np.array(rows, float)
        both, count = used @ used.T, used.sum(1)
        shared.append(both / np.maximum(count[:, None] + count - both, 1))
    if not shared or len(shared[0]) < 2:
        return []
    mean, rows, columns = np.mean(shared, 0), *np.triu_indices(len(shared[0]), 1)
    found = mean[rows, columns]
    return [(int(rows[i]), int(columns[i])) for i in dict.fromkeys([int(found.argmax()), int(found.argmin())])]


def routes(networks: Mapping[str, Masks], classes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> str:
    """A row a network, a panel a pair of classes: its layers from the image to the classifier, SVG."""

    def paint(figure: "Figure") -> None:
        for i, (name, masks) in enumerate(networks.items()):
            for j, (first, second) in enumerate(pairs):
                axes = figure.add_subplot(len(networks), len(pairs), i * len(pairs) + j + 1)
                _panel(axes, route(masks, first, second), classes[first], classes[second])
                axes.set_title(
                    f"{name}: {classes[first]}, {classes[second]}", fontsize=9.5, loc="left", color=INK, pad=19
                )
                if j == 0:
                    axes.set_ylabel("channels, %")
        figure.tight_layout()

    return draw(paint, 4.6 * len(pairs), 2.5 * len(networks))


def _panel(axes: "Axes", found: Route, first: str, second: str) -> None:
    parts = (
        (found.both, "both", PALETTE[2]),
        (found.first, f"only {first}", PALETTE[0]),
        (found.second, f"only {second}", PALETTE[1]),
    )
    x, below = range(len(found.layers)), [0.0] * len(found.layers)
    for shares, label, colour in parts:
        heights = [100 * share for share in shares]
        axes.bar(x, heights, 0.9, bottom=below, color=colour, label=label, linewidth=0)
        below = [a + b for a, b in zip(below, heights, strict=True)]
    axes.bar(x, [100 - b for b in below], 0.9, bottom=below, color=LINE, label="neither", linewidth=0)
    step = ceil(len(found.layers) / _LABELS)
    names = [name.removeprefix("features.") for name in found.layers]
    axes.set_xticks(list(x)[::step], names[::step], rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_ylim(0, 100)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.4, "borderpad": 0}  # under the title
    axes.legend(fontsize=7, ncols=4, columnspacing=0.9, handlelength=1, **place)
