"""Table 5: which network supplies which class, chosen within a budget by an integer program."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.mda.assemblies import SPLITS, answers, fits, whole
from benchmarks.mda.lab import Lab, Source, Wanted, Way
from benchmarks.sheet import Result, Sheet, cells
from lib.errors import BrickyardError
from lib.mda import measure
from lib.mda.choice import problem, ranking, solve
from lib.mda.choice.solve import Choice
from lib.mda.masks import masks
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego

BUDGETS = (0.2e6, 0.25e6, 0.3e6, 0.45e6, 0.7e6, None)  # parameters


@dataclass(frozen=True)
class Chosen:
    """Within a budget: what is best on validation images, of what the program proposes; what it puts first; both with
    the accuracy of the uncut sources side by side on validation images.
    """

    limit: float | None
    best: tuple[Choice, float]
    first: tuple[Choice, float]


def wanted(lab: Lab, names: Sequence[str]) -> Iterator[Wanted]:
    """The components of this table."""
    for chosen, _ in (one for found in _chosen(lab, names)[0] for one in (found.best, found.first)):
        parts = {name: _numbers(lab, classes) for name, classes in chosen.tasks.items()}
        yield from (Wanted(name, classes, _way(lab), SPLITS, True) for name, classes in parts.items())


def table(lab: Lab, names: Sequence[str]) -> Result:
    """A row a budget."""
    found, left_out = _chosen(lab, names)
    rows: list[dict[str, Any]] = [
        {"limit": own.limit, "best": _tried(lab, *own.best), "first": _tried(lab, *own.first)}
        | {"whole": whole(lab, names, own.limit or float("inf"))}
        for own in found
    ]
    columns = ("budget, params", "choice", "params", "predicted", "uncut", "validation", "test")
    best = Sheet(
        "5a. Chosen within a budget, all ten classes: accuracy, %",
        (*columns, "best whole network", "its test"),
        tuple((*_cells(row["limit"], row["best"]), *_whole(row["whole"])) for row in rows),
        "The program proposes the assignment with the highest mean of the sources' accuracies on validation images of "
        "their classes (predicted), with the parameters that classes of one network share paid once, then the best "
        "with fewer networks, and so on; of these the one is taken whose sources, uncut and scaled, are best side by "
        "side on validation images (uncut). Validation, test: of the assembly, whose components are repaired and which "
        "is scaled and not trained. Best whole network: on validation images, of those within the budget."
        + "".join(left_out),
    )
    first = Sheet(
        "5b. What has the highest predicted accuracy",
        (*columns, "bound"),
        tuple((*_cells(row["limit"], row["first"]), *cells([row["first"]["bound"]])) for row in rows),
        "HiGHS; the bound, on what is predicted, is proven. The prediction forgets that a class may be lost to one of "
        "another network.",
    )
    return Result({"rows": rows}, (best, first))


def _cells(limit: float | None, found: dict[str, Any]) -> tuple[str, ...]:
    return (
        "none" if limit is None else f"{limit:,.0f}",
        "; ".join(f"{name}: {', '.join(classes)}" for name, classes in found["tasks"].items()),
        f"{found['params']:,}",
        *cells([found["predicted"], found["uncut"], found["validation"], found["test"]]),
    )


def _whole(best: list[Any] | None) -> tuple[str, ...]:
    return ("", "") if best is None else (best[0], *cells([best[1]]))


def _chosen(lab: Lab, names: Sequence[str]) -> tuple[list[Chosen], list[str]]:
    """By budget, and which networks were left out."""
    params = read("lego", Lego)
    assert params.choose is not None
    sources, left_out = list[problem.Source](), list[str]()
    for name in names:
        try:
            sources.append(_priced(lab, lab.source(name)))
        except BrickyardError as error:  # a layer without channels for a class, which thresholds alone can mend
            left_out.append(f" Left out: {error}.")
    train, validation = (_answers(lab, [source.name for source in sources], split) for split in ("train", "validation"))
    found = []
    for limit in BUDGETS:
        own = solve.choices(problem.Problem(lab.names, tuple(sources), limit, None, params.choose.least))
        tried = [
            (one, ranking.accuracy(one.tasks, train, validation, params.scaling, params.scaling_ridge)) for one in own
        ]
        found.append(Chosen(limit, max(tried, key=lambda one: (one[1], -one[0].cost.params)), tried[0]))
    return found, left_out


def _answers(lab: Lab, names: Sequence[str], split: str) -> ranking.Answers:
    logits = {name: lab.source(name).answers(split) for name in names}
    return ranking.Answers(logits, dict.fromkeys(names, lab.names), [lab.names[c] for c in lab.labels(split)])


def _priced(lab: Lab, source: Source) -> problem.Source:
    outputs = range(len(lab.names))
    evidence = source.evidence("contribution", lab.params.hard, outputs)
    found = masks(evidence, lab.names, lab.params.thresholds, source.name)
    accuracy = ranking.alone(source.name, _answers(lab, [source.name], "validation"), lab.names)
    return problem.Source(source.name, accuracy, problem.prices(source.module, source.coupling, found, lab.names))


def _way(lab: Lab) -> Way:
    return Way(read("components.repair", Repair), hard=lab.params.hard)


def _numbers(lab: Lab, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted(lab.names.index(one) for one in classes))


def _tried(lab: Lab, chosen: Choice, uncut: float) -> dict[str, Any]:
    params = read("lego", Lego)
    parts = {
        name: lab.source(name).component(_numbers(lab, classes), _way(lab)) for name, classes in chosen.tasks.items()
    }
    scaling = fits(lab, parts, params.scaling_ridge)[params.scaling]
    found: dict[str, Any] = {
        "tasks": {name: list(classes) for name, classes in chosen.tasks.items()},
        "predicted": chosen.accuracy,
        "bound": chosen.bound,
        "uncut": uncut,
        "params": sum(part.recipe.cost.params for part in parts.values()),
    }
    for split in ("validation", "test"):
        logits, labels = answers(lab, parts, split)
        found[split] = measure.accuracy(scaling(logits), labels)
    return found
