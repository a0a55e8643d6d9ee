"""Table 7: decision routes: what the classes of a network share, and the picture of two of them."""

from itertools import combinations
from typing import Any

from benchmarks.mda.lab import Lab
from benchmarks.sheet import Result, Sheet, cells
from lib.mda.contributions.masks import masks
from lib.report.routes import Masks, route, routes

NETWORKS = ("vgg_a", "resnet20", "bottleneck")  # googlenet keeps nothing of one layer for birds
PAIRS = ((3, 5), (3, 9))  # cat and dog, cat and truck


def found(lab: Lab, name: str) -> Masks:
    """Component masks of all classes of a network, at the authors' thresholds."""
    source = lab.source(name)
    evidence = source.evidence("contribution", lab.params.hard, range(len(lab.names)))
    return {layer: mask.tolist() for layer, mask in masks(evidence, lab.names, lab.params.thresholds, name).items()}


def picture(lab: Lab) -> str:
    """SVG."""
    return routes({name: found(lab, name) for name in NETWORKS}, lab.names, PAIRS)


def table(lab: Lab) -> Result:
    """Of the channels that either of two classes uses, the share that both use: early, middle and late layers."""
    rows: list[dict[str, Any]] = []
    for name in NETWORKS:
        own = found(lab, name)
        pairs = {pair: route(own, *pair).overlap for pair in combinations(range(len(lab.names)), 2)}
        mean = {pair: sum(overlap) / len(overlap) for pair, overlap in pairs.items()}
        thirds = [sum(_third(overlap, i) for overlap in pairs.values()) / len(pairs) for i in range(3)]
        most, least = max(mean, key=lambda p: mean[p]), min(mean, key=lambda p: mean[p])
        rows.append({"source": name, "thirds": thirds, "most": most, "least": least})
        rows[-1] |= {"most_overlap": mean[most], "least_overlap": mean[least]}
    lines = tuple(
        (
            row["source"],
            *cells([100 * share for share in row["thirds"]]),
            *(f"{_both(lab, row[kind])}: {100 * row[f'{kind}_overlap']:.1f}" for kind in ("most", "least")),
        )
        for row in rows
    )
    sheet = Sheet(
        "7. Channels that two classes share, % of those that either uses",
        ("source", "first third of the layers", "second", "last", "most alike", "least alike"),
        lines,
        "Component masks at the authors' thresholds; mean over all pairs of classes.",
    )
    return Result({"rows": rows}, (sheet,))


def _third(values: tuple[float, ...], i: int) -> float:
    first = i * len(values) // 3
    part = values[first : max(first + 1, (i + 1) * len(values) // 3)]  # a layer at least
    return sum(part) / len(part)


def _both(lab: Lab, pair: tuple[int, int]) -> str:
    return " and ".join(lab.names[c] for c in pair)
