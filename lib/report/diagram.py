"""The pipeline as a diagram: stages and arrows, wide for a desk and tall for a phone."""

from collections.abc import Mapping
from html import escape
from math import copysign

WIDTH, HEIGHT = 126, 50  # of a stage's box
MARGIN, DETOUR = 22, 15  # around the diagram; how far an arrow past other stages keeps from their boxes
COMMON, DERY, MDA = "common", "dery", "mda"
STAGES = {  # wing, (column, row) in the wide form, (column, row) in the tall form
    "dataset": (COMMON, (0, 0), (0.5, 0)),
    "zoo": (COMMON, (1, 0), (0.5, 1)),
    "activations": (DERY, (2, 0), (0, 2)),
    "similarity": (DERY, (3, 0), (0, 3)),
    "partition": (DERY, (4, 0), (0, 4)),
    "edges": (DERY, (5, 0), (0, 5)),
    "bricks": (DERY, (5, 1), (0, 6)),
    "assembly": (DERY, (6, 0), (0, 7)),
    "finetune": (DERY, (7, 0), (0, 8)),
    "contributions": (MDA, (2, 2), (1, 2)),
    "components": (MDA, (3, 2), (1, 3)),
    "lego": (MDA, (4, 2), (1, 4)),
    "report": (COMMON, (8, 0), (0.5, 9)),
}
ARROWS = (  # those of dvc.yaml, but for further readers of images and weights and for what the report reads
    ("dataset", "zoo"),
    ("zoo", "activations"),
    ("activations", "similarity"),
    ("similarity", "partition"),
    ("similarity", "assembly"),
    ("partition", "edges"),
    ("partition", "assembly"),
    ("edges", "assembly"),
    ("partition", "bricks"),
    ("bricks", "assembly"),
    ("assembly", "finetune"),
    ("finetune", "report"),
    ("zoo", "contributions"),
    ("contributions", "components"),
    ("contributions", "lego"),
    ("components", "lego"),
    ("lego", "report"),
)


def pipeline(notes: Mapping[str, str], tall: bool) -> str:
    """SVG of the stages; `notes`: a few words under each stage's name."""
    centres = {name: _centre(at_tall if tall else at_wide, tall) for name, (_, at_wide, at_tall) in STAGES.items()}
    form = "tall" if tall else "wide"
    arrows = [_arrow(centres[start], centres[stop], tall, form) for start, stop in ARROWS]
    boxes = [_box(name, wing, notes.get(name, ""), centres[name]) for name, (wing, *_) in STAGES.items()]
    width = max(x for x, _ in centres.values()) + WIDTH / 2 + MARGIN
    height = max(y for _, y in centres.values()) + HEIGHT / 2 + MARGIN
    head = (
        f'<marker id="arrow-{form}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0.5 L8,4 L0,7.5 Z" class="arrowhead"/></marker>'
    )
    return (
        f'<svg class="pipeline {form}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="The stages of the '
        f'pipeline and the arrows between them"><defs>{head}</defs>{"".join(arrows)}{"".join(boxes)}</svg>'
    )


def _centre(cell: tuple[float, float], tall: bool) -> tuple[float, float]:
    x, y = _steps(tall)
    return MARGIN + WIDTH / 2 + cell[0] * x, MARGIN + HEIGHT / 2 + cell[1] * y


def _steps(tall: bool) -> tuple[float, float]:
    """From one column to the next, and from one row to the next."""
    return (WIDTH + 40, HEIGHT + 26) if tall else (WIDTH + 20, HEIGHT + 44)


def _arrow(start: tuple[float, float], stop: tuple[float, float], tall: bool, form: str) -> str:
    """Straight between neighbours in line, else with bends at right angles; past other stages on the outer side."""
    (x, y), (u, v) = start, stop
    half_width, half_height = WIDTH / 2, HEIGHT / 2
    across, down = _steps(tall)
    if x == u and v - y > down:
        out = half_width if x > MARGIN + WIDTH else -half_width
        path = f"M{x + out:g},{y:g} h{copysign(DETOUR, out):g} V{v:g} H{x + out:g}"
    elif y == v and u - x > across:
        out = half_height if y > MARGIN + HEIGHT else -half_height
        path = f"M{x:g},{y + out:g} v{copysign(DETOUR, out):g} H{u:g} V{y + out:g}"
    elif x == u:
        path = f"M{x:g},{y + half_height:g} V{v - half_height:g}"
    elif y == v:
        path = f"M{x + half_width:g},{y:g} H{u - half_width:g}"
    elif tall:
        turn = v - half_height - 13
        path = f"M{x:g},{y + half_height:g} V{turn:g} H{u:g} V{v - half_height:g}"
    elif v > y:
        path = f"M{x:g},{y + half_height:g} V{v:g} H{u - half_width:g}"
    else:
        path = f"M{x + half_width:g},{y:g} H{u:g} V{v + half_height:g}"
    return f'<path class="arrow" d="{path}" marker-end="url(#arrow-{form})"/>'


def _box(name: str, wing: str, note: str, centre: tuple[float, float]) -> str:
    x, y = centre
    return (
        f'<g class="stage {wing}"><rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="7"/><text class="name" x="{x:g}" y="{y - 4:g}">{escape(name)}</text>'
        f'<text class="note" x="{x:g}" y="{y + 14:g}">{escape(note)}</text></g>'
    )
