"""Table 5: which network supplies which class, chosen within a budget by an integer program."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.mda import accuracies
from lib.mda.choice import offers, prices, ranking, selection
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
    choices, left_out = _choices(lab, names)
    for limit, proposed in choices:
        tried = [_tried(lab, choice) for choice in proposed]
        best = max(tried, key=lambda one: (one["validation"], -one["params"]))
        beside = whole(lab, names, limit or float("inf"))
        beside = beside and [*beside, _scaled(lab, beside[0])]
        rows.append({"limit": limit, "best": best, "tried": tried, "whole": beside})
    alone = {name: of_source(lab.source(name), range(10))[0] for name in names}
    return {"rows": rows, "left_out": left_out, "alone": alone}


def result(found: Mapping[str, Any]) -> Result:
    """A row a budget."""
    rows, left_out = found["budgets"]["rows"], found["budgets"]["left_out"]
    alone = ", ".join(f"{name} {accuracy:.1f}" for name, accuracy in found["budgets"]["alone"].items())
    columns = ("budget, params", "choice", "params", "predicted", "validation", "test")
    best = Sheet(
        "5a. Chosen within a budget, all ten classes: accuracy, %",
        (*columns, "best whole network", "its test", "scaled"),
        tuple((*_cells(row["limit"], row["best"]), *_whole(row["whole"])) for row in rows),
        "The program proposes the assignment with the highest mean of the sources' accuracies on validation images of "
        "their classes (predicted), with the parameters that classes of one network share paid once, then the best "
        "with fewer networks, and so on; all of these are cut out, repaired and scaled, not trained, and the one is "
        "taken that is best on validation images. Best whole network: on validation images, of those within the "
        f"budget; scaled: as the assembly is. Test accuracies of the whole networks: {alone}.{''.join(left_out)}",
    )
    first = Sheet(
        "5b. What has the highest predicted accuracy",
        (*columns, "bound"),
        tuple((*_cells(row["limit"], row["tried"][0]), *cells([row["tried"][0]["bound"]])) for row in rows),
        "HiGHS; the bound, on what is predicted, is proven. The prediction forgets that a class may be lost to one of "
        "another network, and what cutting costs.",
    )
    return Result({"rows": rows}, (best, first))


def _cells(limit: float | None, found: dict[str, Any]) -> tuple[str, ...]:
    return (
        "none" if limit is None else f"{limit:,.0f}",
        "; ".join(f"{name}: {', '.join(classes)}" for name, classes in found["tasks"].items()),
        f"{found['params']:,}",
        *cells([found["predicted"], found["validation"], found["test"]]),
    )


def _whole(best: list[Any] | None) -> tuple[str, ...]:
    return ("", "", "") if best is None else (best[0], *cells(best[1:]))


def _scaled(lab: Lab, name: str) -> float:
    """Test accuracy of a whole network that is scaled as an assembly is."""
    params, source = read("lego", Lego), lab.source(name)
    train, outputs = source.answers("train"), [range(len(lab.names))]
    scaling = calibration.fit(params.scaling, train, lab.labels("train"), outputs, params.scaling_ridge)
    return accuracies.accuracy(scaling(source.answers("test")), lab.labels("test"))


def _choices(lab: Lab, names: Sequence[str]) -> tuple[list[tuple[float | None, list[Choice]]], list[str]]:
    """What is proposed for each budget, and which networks were left out."""
    params = read("lego", Lego)
    assert params.choose is not None
    sources, left_out = list[offers.Source](), list[str]()
    for name in names:
        try:
            sources.append(_priced(lab, lab.source(name)))
        except BrickyardError as error:  # a layer without channels for a class, which thresholds alone can mend
            left_out.append(f" Left out: {error}.")
    priced, least = tuple(sources), params.choose.least
    proposed = [
        (limit, selection.choices(offers.Problem(lab.names, priced, limit, None, least))) for limit in lab.study.budgets
    ]
    return proposed, left_out


def _priced(lab: Lab, source: Source) -> offers.Source:
    outputs = range(len(lab.names))
    evidence = source.evidence("contribution", lab.params.hard, outputs)
    found = masks(evidence, lab.names, lab.params.thresholds, source.name)
    labels = [lab.names[c] for c in lab.labels("validation")]
    said = ranking.Answers({source.name: source.answers("validation")}, {source.name: lab.names}, labels)
    accuracy = ranking.alone(source.name, said, lab.names)
    return offers.Source(source.name, accuracy, prices.shared(source.module, source.coupling, found, lab.names))


def _way(lab: Lab) -> Way:
    return Way(read("components.repair", Repair), hard=lab.params.hard)


def _numbers(lab: Lab, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted(lab.names.index(one) for one in classes))


def _tried(lab: Lab, chosen: Choice) -> dict[str, Any]:
    params = read("lego", Lego)
    parts = {
        name: lab.source(name).component(_numbers(lab, classes), _way(lab)) for name, classes in chosen.tasks.items()
    }
    scaling = fits(lab, parts, params.scaling_ridge)[params.scaling]
    found: dict[str, Any] = {
        "tasks": {name: list(classes) for name, classes in chosen.tasks.items()},
        "predicted": chosen.accuracy,
        "bound": chosen.bound,
        "params": sum(part.recipe.cost.params for part in parts.values()),
    }
    for split in ("validation", "test"):
        logits, labels = answers(lab, parts, split)
        found[split] = accuracies.accuracy(scaling(logits), labels)
    return found


if __name__ == "__main__":
    run(main)
