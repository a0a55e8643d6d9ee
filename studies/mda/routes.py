"""Table 7: decision routes: what the classes of a network share, and the picture of two of them."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.mda.contributions.masks import masks
from lib.params.base import read
from lib.params.run import Run
from lib.report.routes import Masks, route, routes
from stages import prepare, run
from studies.mda.lab import Lab
from studies.sheet import Result, Sheet, cells

PAIRS = ((3, 5), (3, 9))  # cat and dog, cat and truck


def main(dataset: Path, zoo: Path, sources: Path, metrics: Path, plot: Path) -> None:
    """Writes what the classes of networks share to `metrics`, and a picture of two pairs to `plot`."""
    prepare(read("run", Run))
    lab = Lab(dataset, zoo, sources)
    own = {name: kept(lab, name) for name in lab.study.routes}
    artifacts.write_metrics(metrics, {"rows": [shared(name, masks, lab.names) for name, masks in own.items()]})
    artifacts.write_text(plot, routes(own, lab.names, PAIRS))


def kept(lab: Lab, name: str) -> Masks:
    """Component masks of all classes of a network, at the authors' thresholds."""
    source = lab.source(name)
    evidence = source.evidence("contribution", lab.params.hard, range(len(lab.names)))
    return {layer: mask.tolist() for layer, mask in masks(evidence, lab.names, lab.params.thresholds, name).items()}


def shared(name: str, own: Masks, names: Sequence[str]) -> dict[str, Any]:
    """Of the channels that either of two classes uses, the share that both use: early, middle and late layers."""
    pairs = {pair: route(own, *pair).overlap for pair in combinations(range(len(names)), 2)}
    mean = {pair: sum(overlap) / len(overlap) for pair, overlap in pairs.items()}
    thirds = [sum(_third(overlap, i) for overlap in pairs.values()) / len(pairs) for i in range(3)]
    most, least = max(mean, key=lambda p: mean[p]), min(mean, key=lambda p: mean[p])
    found = {"most": _both(names, most), "least": _both(names, least)}
    return {"source": name, "thirds": thirds, **found, "most_overlap": mean[most], "least_overlap": mean[least]}


def result(found: Mapping[str, Any]) -> Result:
    """A row a network."""
    rows = found["routes"]["rows"]
    lines = tuple(
        (
            row["source"],
            *cells([100 * share for share in row["thirds"]]),
            *(f"{row[kind]}: {100 * row[f'{kind}_overlap']:.1f}" for kind in ("most", "least")),
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


def _both(names: Sequence[str], pair: tuple[int, int]) -> str:
    return " and ".join(names[c] for c in pair)


if __name__ == "__main__":
    run(main)
