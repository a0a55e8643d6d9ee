"""Table 5: which network supplies which class, chosen within a budget by an integer program."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.mda.assemblies import SPLITS, answers, fits
from benchmarks.mda.lab import Lab, Source, Wanted, Way
from benchmarks.mda.tasks import own
from benchmarks.sheet import Result, Sheet, cells
from lib.errors import BrickyardError
from lib.mda import choice, measure, problem
from lib.mda.masks import masks
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego

BUDGETS = (0.15e6, 0.2e6, 0.3e6, 0.45e6, 0.7e6, None)  # parameters


def wanted(lab: Lab, names: Sequence[str]) -> Iterator[Wanted]:
    """The components of this table."""
    for chosen in _chosen(lab, names)[0].values():
        parts = {name: _numbers(lab, classes) for name, classes in chosen.tasks.items()}
        yield from (Wanted(name, classes, _way(lab), SPLITS, True) for name, classes in parts.items())


def table(lab: Lab, names: Sequence[str]) -> Result:
    """A row a budget."""
    found, left_out = _chosen(lab, names)
    rows = [{"limit": limit, **_tried(lab, chosen)} for limit, chosen in found.items()]
    lines = tuple(
        (
            "none" if row["limit"] is None else f"{row['limit']:,.0f}",
            "; ".join(f"{name}: {', '.join(classes)}" for name, classes in row["tasks"].items()),
            f"{row['predicted_params']:,}",
            *cells([row["predicted"], row["bound"], row["validation"], row["test"]]),
        )
        for row in rows
    )
    columns = ("budget, params", "choice", "params", "predicted", "bound", "validation", "test")
    sheet = Sheet("5. Chosen within a budget, all ten classes: accuracy, %", columns, lines, _NOTES + "".join(left_out))
    return Result({"rows": rows}, (sheet,))


def _chosen(lab: Lab, names: Sequence[str]) -> tuple[dict[float | None, choice.Choice], list[str]]:
    """By budget, and which networks were left out."""
    params = read("lego", Lego)
    assert params.choose is not None
    sources, left_out = list[problem.Source](), list[str]()
    for name in names:
        try:
            sources.append(_priced(lab, lab.source(name)))
        except BrickyardError as error:  # a layer without channels for a class, which thresholds alone can mend
            left_out.append(f" Left out: {error}.")
    problems = {
        limit: problem.Problem(lab.names, tuple(sources), limit, None, params.choose.least) for limit in BUDGETS
    }
    return {limit: choice.choose(own) for limit, own in problems.items()}, left_out


_NOTES = (
    "Highest mean of the sources' accuracies on validation images of their classes, with the parameters that classes "
    "of one network share paid once (HiGHS; the bound is proven). Components are repaired, the assembly is scaled and "
    "not trained."
)


def _priced(lab: Lab, source: Source) -> problem.Source:
    outputs = range(len(lab.names))
    evidence = source.evidence("contribution", lab.params.hard, outputs)
    found = masks(evidence, lab.names, lab.params.thresholds, source.name)
    logits, labels = source.answers("validation", outputs), own(lab, "validation", outputs)
    right = (logits.argmax(1) == labels).double()
    accuracy = {name: 100 * right[labels == c].mean().item() for c, name in enumerate(lab.names)}
    return problem.Source(source.name, accuracy, problem.prices(source.module, source.coupling, found, lab.names))


def _way(lab: Lab) -> Way:
    return Way(read("components.repair", Repair), hard=lab.params.hard)


def _numbers(lab: Lab, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted(lab.names.index(one) for one in classes))


def _tried(lab: Lab, chosen: choice.Choice) -> dict[str, Any]:
    params = read("lego", Lego)
    parts = {
        name: lab.source(name).component(_numbers(lab, classes), _way(lab)) for name, classes in chosen.tasks.items()
    }
    scaling = fits(lab, parts, params.scaling_ridge)[params.scaling]
    found: dict[str, Any] = {
        "tasks": {name: list(classes) for name, classes in chosen.tasks.items()},
        "predicted": chosen.accuracy,
        "bound": chosen.bound,
        "predicted_params": chosen.cost.params,
        "params": sum(part.recipe.cost.params for part in parts.values()),
    }
    for split in ("validation", "test"):
        logits, labels = answers(lab, parts, split)
        found[split] = measure.accuracy(scaling(logits), labels)
    return found
