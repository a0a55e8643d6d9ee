"""Table 5: which network supplies which class, chosen within a budget, and how well what it will be is predicted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.mda import accuracies
from lib.mda.choice import offers, prices, ranking, search
from lib.mda.choice.evaluation import halves
from lib.mda.choice.kept import keep
from lib.mda.choice.search import Proposals
from lib.mda.choice.selection import Choice
from lib.mda.contributions.masks import masks
from lib.mda.lego import calibration
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego
from lib.params.run import Run
from stages import prepare, run
from studies.mda.assemblies import answers, fits, whole
from studies.mda.lab import Lab, Source, Way
from studies.mda.tasks import of_source
from studies.sheet import Result, Sheet, cells


def main(dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes what is chosen within each budget to `metrics`."""
    prepare(read("run", Run))
    artifacts.write_metrics(metrics, found(Lab(dataset, zoo, sources)))


def found(lab: Lab) -> dict[str, Any]:
    """A row a budget, which networks were left out, and what each is worth alone."""
    rows: list[dict[str, Any]] = []
    names = lab.params.models
    chooser = Chooser(lab, names)
    for limit in lab.study.budgets:
        beside = whole(lab, names, limit or float("inf"))
        beside = beside and [*beside, _scaled(lab, beside[0])]
        rows.append({"limit": limit, **chooser.chosen(limit), "whole": beside})
    alone = {name: of_source(lab.source(name), range(10))[0] for name in names}
    return {"rows": rows, "left_out": chooser.left_out, "alone": alone}


def largest_error(lab: Lab, names: Sequence[str], limits: Sequence[float | None]) -> float:
    """The largest difference, in points, between what a choice from networks `names` was predicted to have, on half of
    the test images, and has on the others; limits: parameters, None = any. Raises BrickyardError where nothing fits.
    """
    chooser = Chooser(lab, names)
    return max(abs(error(chooser.chosen(limit)["best"])) for limit in limits)


def error(best: Mapping[str, Any]) -> float:
    """Predicted minus measured, in points."""
    return best["predicted"] - best["measured"]


def result(found: Mapping[str, Any]) -> Result:
    """A row a budget."""
    rows, left_out = found["budgets"]["rows"], found["budgets"]["left_out"]
    alone = ", ".join(f"{name} {accuracy:.1f}" for name, accuracy in found["budgets"]["alone"].items())
    columns = ("budget, params", "choice", "params")
    best = Sheet(
        "5a. Chosen within a budget, all ten classes: accuracy, %",
        (*columns, "predicted", "measured", "difference", "test", "best whole network", "its test", "scaled"),
        tuple((*_cells(row["limit"], row["best"], TOLD), *_whole(row["whole"])) for row in rows),
        "Chosen on half of the validation images: the combination that is best by what whole networks say, scaled, "
        "with the parameters that classes of one network share paid once, then the best with fewer networks, and so "
        "on; all of these are cut out, repaired and scaled, not trained, and the one is taken that is best. Predicted: "
        "its accuracy on half of the test images, since the networks that others trained have seen the validation "
        "images; measured: on the other half, which predicted nothing; test: on both. Best whole network: on "
        "validation images, of those within the budget; scaled: as the assembly is. Test accuracies of the whole "
        f"networks: {alone}.{''.join(left_out)}",
    )
    second = Sheet(
        "5b. What is seen of the choice on the way",
        (*columns, "uncut", "bound", "of combinations", "validation, chose", "validation, other half", "predicted"),
        tuple((*_cells(row["limit"], row["best"], SEEN), *cells([row["best"]["predicted"]])) for row in rows),
        "Uncut: whole networks side by side in place of the components, each scaled by itself, on the images that "
        "choose; the bound on that is proven, and met up to equal ones where all combinations within the budget were "
        "looked at. What the other half of the validation images has above predicted is what networks know of images "
        "on which they have been trained.",
    )
    return Result({"rows": rows}, (best, second))


TOLD = ("predicted", "measured", "difference", "test")
SEEN = ("uncut", "bound", "looked_at", "validation", "seen")


def _cells(limit: float | None, best: dict[str, Any], told: Sequence[str]) -> tuple[str, ...]:
    best = {**best, "difference": error(best)}
    found = [f"{best[name]:,}" if isinstance(best[name], int) else cells([best[name]])[0] for name in told]
    return (
        "none" if limit is None else f"{limit:,.0f}",
        "; ".join(f"{name}: {', '.join(classes)}" for name, classes in best["tasks"].items()),
        f"{best['params']:,}",
        *found,
    )


def _whole(best: list[Any] | None) -> tuple[str, ...]:
    return ("", "", "") if best is None else (best[0], *cells(best[1:]))


def _scaled(lab: Lab, name: str) -> float:
    """Test accuracy of a whole network that is scaled as an assembly is."""
    params, source = read("lego", Lego), lab.source(name)
    train, outputs = source.answers("train"), [range(len(lab.names))]
    scaling = calibration.fit(params.scaling, train, lab.labels("train"), outputs, params.scaling_ridge)
    return accuracies.accuracy(scaling(source.answers("test")), lab.labels("test"))


class Chooser:
    """Chooses components of some networks within budgets; left_out: a line on each network that has none."""

    def __init__(self, lab: Lab, names: Sequence[str]):
        self.lab, self.params = lab, read("lego", Lego)
        assert self.params.choose is not None
        self.least, self.left_out = self.params.choose.least, list[str]()
        priced = dict[str, prices.Shared]()
        for name in names:
            try:
                priced[name] = _priced(lab, lab.source(name))
            except BrickyardError as error:  # a layer without channels for a class, which thresholds alone can mend
                self.left_out.append(f" Left out: {error}.")
        images, splits = lab.images, lab.splits
        chooses, seen = halves(images, splits["validation"], lab.seed)
        predicts, measures = halves(images, splits["test"], lab.seed, enough=0)
        self.rows = {
            "validation": _within(splits["validation"], chooses),
            "seen": _within(splits["validation"], seen),
            "predicted": _within(splits["test"], predicts),
            "measured": _within(splits["test"], measures),
            "test": _within(splits["test"], splits["test"]),
        }
        self.train, self.asked = self._answers(priced, "train"), self._answers(priced, "validation", "validation")
        method, ridge = self.params.scaling, self.params.scaling_ridge
        self.kept = keep(self.train, self.asked, lab.names, method, ridge)
        self.sources = tuple(offers.Source(name, self.kept.at_best[name], price) for name, price in priced.items())

    def chosen(self, limit: float | None) -> dict[str, Any]:
        """What was tried within a budget, in percent, and the best of it on the images that choose."""
        params = self.params

        def judge(tasks: Mapping[str, tuple[str, ...]]) -> float:
            return ranking.accuracy(tasks, self.train, self.asked, params.scaling, params.scaling_ridge)

        problem = offers.Problem(self.lab.names, self.sources, limit, None, self.least)
        proposed = search.propose(problem, self.kept, judge)
        tried = [self._tried(proposed, choice) for choice in proposed.choices]
        return {"best": max(tried, key=lambda one: (one["validation"], -one["params"])), "tried": tried}

    def _tried(self, proposed: Proposals, choice: Choice) -> dict[str, Any]:
        lab, params = self.lab, self.params
        parts = {
            name: lab.source(name).component(_numbers(lab, classes), _way(lab))
            for name, classes in choice.tasks.items()
        }
        scaling = fits(lab, parts, params.scaling_ridge)[params.scaling]
        found: dict[str, Any] = {
            "tasks": {name: list(classes) for name, classes in choice.tasks.items()},
            "uncut": choice.accuracy,
            "bound": choice.bound,
            "looked_at": proposed.looked_at,
            "is_complete": proposed.is_complete,
            "params": sum(part.recipe.cost.params for part in parts.values()),
        }
        told = {split: answers(lab, parts, split) for split in ("validation", "test")}
        for name, rows in self.rows.items():
            logits, labels = told["validation" if name in ("validation", "seen") else "test"]
            found[name] = accuracies.accuracy(scaling(logits[rows]), labels[rows])
        return found

    def _answers(self, names: Mapping[str, Any], split: str, rows: str | None = None) -> ranking.Answers:
        lab, own = self.lab, self.rows[rows] if rows else slice(None)
        logits = {name: lab.source(name).answers(split)[own] for name in names}
        labels = [lab.names[c] for c in lab.labels(split)[own].tolist()]
        return ranking.Answers(logits, dict.fromkeys(names, lab.names), labels)


def _priced(lab: Lab, source: Source) -> prices.Shared:
    evidence = source.evidence("contribution", lab.params.hard, range(len(lab.names)))
    found = masks(evidence, lab.names, lab.params.thresholds, source.name)
    return prices.shared(source.module, source.coupling, found, lab.names)


def _within(split: np.ndarray, index: np.ndarray) -> torch.Tensor:
    """Where the images of `index` are in a split."""
    return torch.from_numpy(np.isin(split, index).nonzero()[0])


def _way(lab: Lab) -> Way:
    return Way(read("components.repair", Repair), hard=lab.params.hard)


def _numbers(lab: Lab, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted(lab.names.index(one) for one in classes))


if __name__ == "__main__":
    run(main)
