"""The page: charts and tables put into the template, one self-contained HTML file."""

from math import floor
from pathlib import Path
from typing import get_args

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import charts, tables
from .charts import Dot, Profile
from .diagram import pipeline
from .figures import PALETTE, heat_map, inline
from .findings import Findings
from .frontier import UNITS, frontier, scaled
from .routes import alike, routes

PANELS = 8  # learning curves shown, at most


def render(findings: Findings) -> str:
    """The page as HTML; the same findings give the same text. Names are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (tables.percent, tables.count, tables.amount, tables.signed, tables.shortened)
    css = environment.get_template("page.css").render()
    environment.filters |= {form.__name__: form for form in formats}
    shown, folded = tables.pool(findings)
    head = tables.headline(findings)
    images = findings.single("dataset")["images"]["test"]
    return environment.get_template("page.html.jinja").render(
        findings=findings,
        css=Markup(css),
        head=head,
        images=images,
        error=tables.standard_error(head["best"]["test"], images),
        pipelines=[Markup(pipeline(notes(findings), tall)) for tall in (False, True)],
        zoo=tables.zoo(findings),
        heat_map=_heat_map(findings),
        bars=tables.bars(findings),
        drawn={rank: tables.drawn(findings, rank) for rank in findings.ranks},
        pool=shown,
        folded=folded,
        tuned=tables.tuned(findings),
        fronts=_fronts(findings),
        agreement=tables.agreement(findings),
        limits=tables.limits(findings),
        scatter=_scatter(findings),
        curves=_curves(findings),
        profiles=_profiles(findings),
        routes=_routes(findings),
        components=tables.components(findings),
        colours=len(PALETTE),
    )


def notes(findings: Findings) -> dict[str, str]:
    """A few words under each stage of the diagram."""
    images = findings.single("dataset")["images"]
    probes = next(iter(findings.metrics["activations"].values()))["images"]
    return {
        "dataset": f"{images['train'] + images['validation'] + images['test']:,} images",
        "zoo": f"{len(findings.zoo)} networks",
        "activations": f"{probes:,} images",
        "similarity": f"{findings.single('similarity')['nodes']:,} nodes",
        "partition": f"K = {findings.partition.num_blocks} blocks",
        "edges": f"{(findings.partition.num_blocks - 1) * len(findings.zoo) * (len(findings.zoo) - 1):,} stitches",
        "bricks": "smaller forms",
        "assembly": _plural(len(findings.assembly["candidates"]), "candidate"),
        "finetune": f"{len(findings.ranks)} tuned",
        "contributions": _plural(len(findings.kept), "network"),
        "components": _plural(len(findings.components), "component"),
        "lego": "1 classifier",
        "report": "this page",
    }


def dots(findings: Findings, cost: str) -> list[Dot]:
    """Zoo networks as used for the task, and every tuned candidate after each protocol and from scratch."""
    models = findings.single("assembly")["controls"]["zoo"]["models"]
    found = [Dot(name, models[name][cost], models[name]["test"], models[name]["head"]) for name in findings.zoo]
    for row in tables.tuned(findings):
        for kind in get_args(charts.Kind):
            if row["scores"].get(kind) is not None:
                found.append(Dot(f"r{row['rank']}", row[cost], row["scores"][kind], kind, row["rank"]))
    return found


def kept_channels(findings: Findings, network: str) -> Profile:
    """Shares over the classes of `network`, and of the components cut out of it, in the order of its layers."""
    shares: dict[str, list[float]] = {}
    channels = {}
    for row in findings.kept[network]:
        shares.setdefault(row["layer"], []).append(row["kept"] / row["channels"])
        channels[row["layer"]] = row["channels"]
    cut = {
        task: tuple(len(recipe["kept"][layer]) / channels[layer] for layer in shares)
        for task, recipe in findings.components.items()
        if recipe["source"]["name"] == network and set(shares) <= set(recipe["kept"])
    }
    mean = tuple(sum(values) / len(values) for values in shares.values())
    least, most = tuple(map(min, shares.values())), tuple(map(max, shares.values()))
    return Profile(tuple(shares), mean, least, most, cut)


def _heat_map(findings: Findings) -> Markup:
    index = findings.single("similarity")["index"]
    svg = heat_map(np.array(findings.similarity), findings.rows, index)
    return _picture(svg, "similarity", f"{index} between all pairs of nodes")


def _scatter(findings: Findings) -> list[Markup]:
    budget = findings.assembly["budget"]
    pictures = []
    for cost in ("params", "macs"):
        found = dots(findings, cost)
        size, what = scaled(cost, max(dot.x for dot in found))
        in_units = [Dot(d.name, d.x / size, d.accuracy, d.kind, d.rank) for d in found]
        limit = None if budget[cost] is None else budget[cost] / size
        svg = charts.scatter(in_units, limit, what)
        pictures.append(_picture(svg, f"cost-{cost}", f"Test accuracy against {UNITS[cost]}"))
    return pictures


def _fronts(findings: Findings) -> list[Markup]:
    """A Pareto front for each kind of cost."""
    pictures = []
    for cost, points in findings.assembly["pareto"].items():
        if not points:
            continue
        size, what = scaled(cost, max(point["cost"] for point in points))
        svg = frontier(points, size, findings.assembly["budget"][cost], what)
        pictures.append(_picture(svg, f"front-{cost}", f"Predicted score against {UNITS[cost]}"))
    return pictures


def _curves(findings: Findings) -> list[Markup]:
    ranks = [rank for rank in findings.ranks if findings.curves[rank]][:PANELS]
    rows = [row for rank in ranks for row in findings.curves[rank]]
    end = max((row["epoch"] for row in rows), default=0)  # where training from scratch has arrived
    shown = (row["validation_accuracy"] for row in rows if row["network"] != "scratch" or row["epoch"] == end)
    lowest = min(shown, default=0)
    bottom = max(0, 5 * floor(lowest / 5) - 10)
    svgs = {rank: charts.curves(findings.curves[rank], f"r{rank}", bottom) for rank in ranks}
    return [_picture(svg, f"curve-{rank}", f"Learning curves of r{rank}") for rank, svg in svgs.items()]


def _profiles(findings: Findings) -> list[Markup]:
    svgs = [charts.profile(kept_channels(findings, name), name) for name in findings.kept]
    return [_picture(svg, f"kept-{i}", "Share of channels kept by layer") for i, svg in enumerate(svgs)]


def _routes(findings: Findings) -> list[Markup]:
    """Of each network the two classes whose ways are most alike, and the two whose ways are least."""
    pictures = []
    for i, (name, masks) in enumerate(findings.masks.items()):
        names = list(dict.fromkeys(row["class"] for row in findings.kept[name]))
        if pairs := alike(masks):
            svg = routes({name: masks}, names, pairs)
            pictures.append(_picture(svg, f"routes-{i}", "Channels that two classes share by layer"))
    return pictures


def _picture(svg: str, name: str, description: str) -> Markup:
    return Markup(inline(svg, name, description))


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
