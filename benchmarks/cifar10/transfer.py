"""Table 6: sources that know one half of the classes, a task of the other half: closed-form heads, then frozen."""

from dataclasses import replace
from statistics import mean

import numpy as np

from benchmarks.cifar10.statistics import difference, pick
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.images.data import DataSet, of_classes
from lib.images.sources import Images

TARGET = range(5, 10)  # classes of the task


def target(data: DataSet, probe_images: int) -> DataSet:
    """The images of the target classes, renumbered, with the same splits; probe images are drawn from its train images
    in the order of the old ones, as far as they go, then from the rest.
    """
    images = data.images
    kept = of_classes(images, np.arange(len(images)), TARGET)
    place = np.full(len(images), -1)
    place[kept] = np.arange(len(kept))
    own = Images(
        labels=images.labels[kept] - TARGET.start,
        classes=tuple(images.classes[c] for c in TARGET),
        held_out=images.held_out[kept],
        image=lambda i: images.image(int(kept[i])),
        checksum=f"{images.checksum} classes {list(TARGET)}",
    )
    splits = {name: place[of_classes(images, getattr(data, name), TARGET)] for name in ("train", "validation", "test")}
    probe = np.random.default_rng(0).permutation(splits["train"])[:probe_images]
    return replace(data, images=own, **splits, probe=probe)


def table(study: Study, tune: bool) -> Result:
    """Sources and hybrids with closed-form heads on the target classes."""
    paths = [*study.sources, *study.hybrids]
    networks = study.networks(START, paths)
    rights = {"closed-form head": study.right(START, paths, study.on_test)}
    if tune:
        rights["then one epoch frozen"] = tuned(study, networks, ["frozen"])
    measure = {name: accuracy(own) for name, own in rights.items()}
    score = {path: study.problem.score(path) for path in study.hybrids}
    few = accuracy(study.right(START, study.hybrids, study.on_few))
    ours = pick(study.hybrids, score, few, study.params.pool)
    best = {name: max(study.hybrids, key=lambda path, own=own: own[path]) for name, own in measure.items()}
    rows = [(study.title(path), *cells([own[path] for own in measure.values()])) for path in study.sources]
    rows.append(("hybrids, mean", *cells([mean(own[p] for p in study.hybrids) for own in measure.values()])))
    rows.append(("hybrids, best", *cells([own[best[name]] for name, own in measure.items()])))
    rows.append((f"our pick: {study.title(ours)}", *cells([own[ours] for own in measure.values()])))
    gains = {}
    for name, own in rights.items():
        against = [difference(own[ours], own[path], study.seed) for path in study.sources]
        gains[name] = min(against, key=lambda gain: gain.low)
    rows.append(("pick - best source, points [95 %]", *(str(gain) for gain in gains.values())))
    figures = {
        name: {
            "sources": {study.title(p): own[p] for p in study.sources},
            "hybrids_mean": mean(own[p] for p in study.hybrids),
            "hybrids_best": own[best[name]],
            "pick": own[ours],
            "gain_low": gains[name].low,
        }
        for name, own in measure.items()
    }
    title = "6. Transfer: sources trained on classes 0-4, the task has classes 5-9: test accuracy, %"
    notes = f"Heads from {study.params.head_images:,} labelled train images; {len(study.on_test.index):,} test images."
    return Result(figures, (Sheet(title, ("network", *measure), tuple(rows), notes),))
