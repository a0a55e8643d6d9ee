"""Table 4: the paper's ablation: cover set on and off, predictor on and off, with what the search costs."""

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from lib.base import artifacts
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.run import Run
from stages import run
from studies.cifar10.bootstrap import pick
from studies.cifar10.group import START, Group, Measured, accuracy
from studies.cifar10.params import Study
from studies.sheet import Result, Sheet, cells


def main(cut: Path, untrained: Path, tuned: Path, random_cuts: Path, metrics: Path) -> None:
    """Writes the table to `metrics`. cut: folder of the group; random_cuts: the records of that stage."""
    cut_at_random = [artifacts.read_metrics(file) for file in sorted(random_cuts.glob("*.json"))]
    table(Measured(Group.load(cut), untrained, tuned), cut_at_random).save(metrics)


def table(measured: Measured, cut_at_random: list[dict[str, Any]]) -> Result:
    """Mean over the random parts; cost in networks put together and images through them."""
    params, group = read("assembly", Assembly), measured.group
    few, fit = read("study", Study).rank_images, group.fit_images
    pool = sorted(group.hybrids, key=lambda path: (-group.score(path), path))[: params.pool]
    scores = {path: group.score(path) for path in group.hybrids}
    chosen = pick(pool, scores, measured.few(START), params.pool)
    columns = [accuracy(measured.right(kind)) for kind in (START, "frozen")]
    order = np.random.default_rng(read("run", Run).seed).permutation(len(group.hybrids))
    found = {
        (True, True): [[column[chosen] for column in columns]],
        (True, False): [[column[group.hybrids[i]] for column in columns] for i in order],
        (False, True): [row for one in cut_at_random for row in one["predictor"]],
        (False, False): [row for one in cut_at_random for row in one["random"]],
    }
    macs = {True: sum(group.worth[path].macs for path in pool), False: mean(one["macs"] for one in cut_at_random)}
    rows, figures = [], {}
    for (cover, predictor), own in found.items():
        means = [mean(column) for column in zip(*own, strict=True)]
        spread = [float(np.std(column)) for column in zip(*own, strict=True)]
        cost = macs[cover] * (few + 2 * fit) / 1e12 if predictor else 0.0
        rows.append(
            (
                "on" if cover else "off",
                "on" if predictor else "off",
                str(len(own)),
                *(f"{m:.1f} ± {s:.1f}" for m, s in zip(means, spread, strict=True)),
                *cells([cost], 2),
            )
        )
        figures[f"cover_{'on' if cover else 'off'}_predictor_{'on' if predictor else 'off'}"] = {
            "untrained": means[0],
            "frozen": means[1],
            "networks": len(own),
            "search_tmacs": cost,
        }
    columns_ = ("cover set", "predictor", "networks", "without training", "frozen")
    notes = (
        f"Predictor on: the best of {params.pool} on {few} labelled train images; off: random hybrids, mean ± "
        f"deviation. Cover set off: {len(cut_at_random)} random legal partitions. Search cost: forward passes of the "
        f"networks that are put together to choose one, over {fit} images twice to fit the stitches and {few} to "
        "choose; refits of the layers behind them, which take about 20 times as long as the stitches, and the scores "
        f"of all stitches are not in it. What it saves is to try all {len(group.hybrids)} on labelled images."
    )
    sheet = Sheet("4. Ablation: test accuracy, %", (*columns_, "search, TMACs"), tuple(rows), notes)
    return Result(figures, (sheet,))


if __name__ == "__main__":
    run(main)
