"""Pictures as SVG text: the same values give the same bytes. What all of them share, and the heat map."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1d2733", "#66717e", "#d9dee4"
PALETTE = ("#2f6db3", "#c2571a", "#2e8560", "#8457a6", "#937012", "#b03f67", "#1f8494", "#6f665c")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "brickyard",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 10,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}


def heat_map(matrix: Float[np.ndarray, "L L"], groups: Sequence[str], label: str = "CKA") -> str:
    """A similarity matrix [n, n], shown from 0 to 1; consecutive rows of one group are framed by lines and share a
    name. label: of the values.
    """
    ends = np.cumsum([len(list(rows)) for _, rows in groupby(groups)])
    starts = np.concatenate([[0], ends[:-1]])
    names = [name for name, _ in groupby(groups)]

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        image = axes.imshow(matrix, vmin=0, vmax=1, cmap="magma", interpolation="none")
        for end in ends[:-1]:
            axes.axhline(end - 0.5, color="#fefefe", linewidth=0.6)
            axes.axvline(end - 0.5, color="#fefefe", linewidth=0.6)
        middles, size = (starts + ends - 1) / 2, 9 if len(names) <= 16 else 6.5
        axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(middles, names, fontsize=size)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label=label)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]

    return draw(paint, 5.0, 4.4)


def draw(paint: Callable[["Figure"], None], width: float, height: float) -> str:
    """SVG of a figure, `width` x `height` inches, that `paint` fills."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    text = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        paint(figure)
        plain = {"Date": None, "Creator": None}
        figure.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.04, metadata=plain)
    return text.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """The picture as an element of an HTML page.

    Its ids start with `name`, so that pictures do not refer into one another; colours and font become the page's CSS
    variables, so that it follows the colour scheme; it is as wide as its container. `description`: for readers who
    do not see it.
    """
    opening = f'<svg class="plot" {{box}} role="img" aria-label="{escape(description)}">'
    return _restyled(svg, name, opening)


def _restyled(svg: str, name: str, opening: str) -> str:
    """Without what precedes it, under a new opening tag, in which `{box}` is its view box; ids, colours and font as
    `inline` says.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    opening = opening.replace("{box}", box.group() if box else "")
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    svg = svg.replace("xlink:href=", "href=").replace('id="', f'id="{name}-')
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg).replace("fill: #ffffff", "fill: none")
    variables = {INK: "--ink", MUTED: "--muted", LINE: "--line", **{c: f"--s{i}" for i, c in enumerate(PALETTE)}}
    return re.sub("|".join(variables), lambda found: f"var({variables[found.group()]})", svg)
