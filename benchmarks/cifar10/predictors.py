"""Table 2: which predictor ranks hybrids as the test does."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from statistics import mean
from typing import Any

from benchmarks.cifar10.hybrids import WORDS, measured
from benchmarks.cifar10.statistics import tau
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START
from benchmarks.sheet import Result, Sheet
from lib.dery.assembly.built import NASWOT_BATCHES, NASWOT_IMAGES
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.assembly.proxies.synflow import synflow
from lib.dery.paths.problem import Columns
from lib.images.data import Loader

TITLES = {
    "stitch_r2": "R² of the stitches (label-free)",
    "cka": "CKA at the stitches (label-free)",
    "few_shot": "accuracy on 500 labelled train images",
    "naswot": "NASWOT",
    "synflow": "SynFlow",
    "similarity": "similarity to the anchors",
    "params": "parameters (more is better)",
    "macs": "MACs (more is better)",
}
Values = Mapping[Columns, float]


def static(study: Study) -> dict[str, dict[Columns, float]]:
    """Predictors that know nothing of the network as it was put together."""
    by_cka = replace(study.problem, scores=study.scores("cka"))
    anchors = [[block.similarity_to_anchor for block in study.partition.members(name)] for name in study.names]
    return {
        "stitch_r2": {path: study.problem.score(path) for path in study.hybrids},
        "cka": {path: by_cka.score(path) for path in study.hybrids},
        "similarity": {path: sum(anchors[m][k] for k, m in enumerate(path)) for path in study.hybrids},
        "params": {path: study.problem.cost(path, "params") for path in study.hybrids},
        "macs": {path: study.problem.cost(path, "macs") for path in study.hybrids},
    }


def few_shot(study: Study, setting: str) -> dict[Columns, float]:
    """Accuracy on the labelled train images of the ranking."""
    return accuracy(study.right(setting, study.hybrids, study.on_few))


def switches(study: Study, setting: str) -> dict[Columns, float]:
    """NASWOT on 5 batches of 32 unlabelled train images."""
    found, loaders = {}, {}
    probe = study.data.probe[: NASWOT_BATCHES * NASWOT_IMAGES]
    for path, (network, recipe) in study.networks(setting, study.hybrids).items():
        if recipe.input not in loaders:
            loaders[recipe.input] = Loader(study.data.images, probe, recipe.input.transform(), NASWOT_IMAGES)
        value = naswot(network, (x for x, _ in loaders[recipe.input]))
        found[path] = float("-inf") if value is None else value
    return found


def flows(study: Study, setting: str) -> dict[Columns, float]:
    """SynFlow."""
    found = {}
    for path, (network, recipe) in study.networks(setting, study.hybrids).items():
        value = synflow(network, recipe.input.shape)
        found[path] = float("-inf") if value is None else value
    return found


def finite(value: float) -> float | None:
    """For JSON."""
    return value if isfinite(value) else None


def predictions(study: Study, setting: str) -> dict[str, dict[Columns, float]]:
    """All predictors; those of the network itself look at it as it stands in `setting`."""
    own = {"few_shot": few_shot(study, setting), "naswot": switches(study, setting), "synflow": flows(study, setting)}
    found = own | static(study)
    return {name: found[name] for name in TITLES}


def table(study: Study, tune: bool) -> Result:
    """Kendall's tau to test accuracy with bootstrap intervals, in each setting; mean accuracy of the 5 best."""
    right = measured(study, tune)
    settings = [
        setting for setting in ("least_squares", "recalibrated", "head", "layers", "frozen") if setting in right
    ]
    figures: dict[str, Any] = {}
    columns, top = {}, {}
    for setting in settings:
        measure = accuracy(right[setting])
        predicted = predictions(study, START if setting == "frozen" else setting)
        columns[setting] = {
            name: tau([own[p] for p in study.hybrids], [measure[p] for p in study.hybrids], study.seed)
            for name, own in predicted.items()
        }
        figures[setting] = {name: asdict(estimate) for name, estimate in columns[setting].items()}
        points = {name: [finite(own[path]) for path in study.hybrids] for name, own in predicted.items()}
        figures[setting]["points"] = points | {"test": [measure[path] for path in study.hybrids]}
        for name, own in predicted.items():
            best = sorted(study.hybrids, key=lambda path, own=own: (-own[path], path))[:5]
            top[setting, name] = mean(measure[path] for path in best)
    taus = Sheet(
        "2a. Kendall's tau of predictors to test accuracy [95 % bootstrap interval over hybrids]",
        ("predictor", *(WORDS[setting] for setting in settings)),
        tuple((TITLES[name], *(str(columns[s][name]) for s in settings)) for name in TITLES),
        "Accuracy on labels, NASWOT and SynFlow look at the network before tuning.",
    )
    means = Sheet(
        "2b. Mean test accuracy of the 5 hybrids that a predictor likes best, %",
        ("predictor", *(WORDS[setting] for setting in settings)),
        tuple((TITLES[name], *(f"{top[s, name]:.1f}" for s in settings)) for name in TITLES),
    )
    return Result(figures, (taus, means))
