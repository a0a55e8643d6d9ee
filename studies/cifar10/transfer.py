"""Table 6: sources that know one half of the classes, a task of the other half: closed-form heads, then frozen."""

from pathlib import Path
from statistics import mean

from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.run import Run
from stages import run
from studies.cifar10.bootstrap import difference, pick
from studies.cifar10.group import START, Group, Measured, accuracy
from studies.sheet import Result, Sheet, cells


def main(cut: Path, untrained: Path, tuned: Path, metrics: Path) -> None:
    """Writes the table to `metrics`. cut: folder of the group; untrained, tuned: of those stages, all items."""
    table(Measured(Group.load(cut), untrained, tuned)).save(metrics)


def table(measured: Measured) -> Result:
    """Sources and hybrids with closed-form heads on the target classes."""
    group, params, seed = measured.group, read("assembly", Assembly), read("run", Run).seed
    rights = {"closed-form head": measured.right(START), "then one epoch frozen": measured.right("frozen")}
    measure = {name: accuracy(own) for name, own in rights.items()}
    score = {path: group.score(path) for path in group.hybrids}
    ours = pick(group.hybrids, score, measured.few(START), params.pool)
    best = {name: max(group.hybrids, key=lambda path, own=own: own[path]) for name, own in measure.items()}
    rows = [(group.title(path), *cells([own[path] for own in measure.values()])) for path in group.sources]
    rows.append(("hybrids, mean", *cells([mean(own[p] for p in group.hybrids) for own in measure.values()])))
    rows.append(("hybrids, best", *cells([own[best[name]] for name, own in measure.items()])))
    rows.append((f"our pick: {group.title(ours)}", *cells([own[ours] for own in measure.values()])))
    gains = {}
    for name, own in rights.items():
        against = [difference(own[ours], own[path], seed) for path in group.sources]
        gains[name] = min(against, key=lambda gain: gain.low)
    rows.append(("pick - best source, points [95 %]", *(str(gain) for gain in gains.values())))
    figures = {
        name: {
            "sources": {group.title(p): own[p] for p in group.sources},
            "hybrids_mean": mean(own[p] for p in group.hybrids),
            "hybrids_best": own[best[name]],
            "pick": own[ours],
            "gain_low": gains[name].low,
        }
        for name, own in measure.items()
    }
    title = "6. Transfer: sources trained on classes 0-4, the task has classes 5-9: test accuracy, %"
    tested = len(measured.right(START)[ours])
    notes = f"Heads from {params.head_images:,} labelled train images; {tested:,} test images."
    return Result(figures, (Sheet(title, ("network", *measure), tuple(rows), notes),))


if __name__ == "__main__":
    run(main)
