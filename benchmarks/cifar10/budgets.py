"""Table 3: under a budget, our pick beside the authors' random search, the exhaustive best and the zoo."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.cifar10.hybrids import measured
from benchmarks.cifar10.predictors import few_shot, switches
from benchmarks.cifar10.statistics import Estimate, affordable, difference, pick, random_pick, regret
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START, from_scratch, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.dery.paths.problem import Columns

UNTRAINED, REFITTED = "without training", "without training, layers refitted"
FROZEN, FULL = "frozen", "frozen, then full"


@dataclass(frozen=True)
class Choice:
    """Within a budget, `limit` parameters: all hybrids, our pick, and the zoo networks."""

    limit: int
    hybrids: tuple[Columns, ...]
    pick: Columns
    zoo: tuple[Columns, ...]


def choices(study: Study, setting: str) -> list[Choice]:
    """One for each of the hybrids' own numbers of parameters as a budget; no test image is looked at."""
    params = {path: study.problem.cost(path, "params") for path in [*study.hybrids, *study.sources]}
    score = {path: study.problem.score(path) for path in study.hybrids}
    again = few_shot(study, setting)
    found = []
    for limit in sorted({params[path] for path in study.hybrids}):
        hybrids = affordable({path: params[path] for path in study.hybrids}, limit)
        zoo = affordable({path: params[path] for path in study.sources}, limit)
        found.append(Choice(int(limit), tuple(hybrids), pick(hybrids, score, again, study.params.pool), tuple(zoo)))
    return found


def table(study: Study, tune: bool, full: bool = True) -> Result:
    """A sheet a tuning protocol, a row a budget, and how many budgets are won; without `full` none learns whole."""
    right = measured(study, tune)
    rights: dict[str, Mapping[Columns, np.ndarray]] = {UNTRAINED: right["recalibrated"]}
    scratch: Mapping[Columns, np.ndarray] = {}
    settings = dict.fromkeys((REFITTED, FROZEN, FULL), START) | {UNTRAINED: "recalibrated"}
    if START in right:
        rights[REFITTED] = {path: right["recalibrated"][path] for path in study.sources} | right[START]
    if tune:
        rights[FROZEN] = right["frozen"]
    if tune and full:
        networks = study.networks(START, [*study.sources, *study.hybrids])
        rights[FULL] = tuned(study, networks, ["frozen", "full"])
        picks = [choice.pick for choice in choices(study, START)]
        scratch = from_scratch(study, {path: networks[path] for path in (picks[0], picks[-1])})
    sheets, figures = [], {}
    for protocol, own in rights.items():
        chosen, liked = choices(study, settings[protocol]), switches(study, settings[protocol])
        sheet, figures[protocol] = _sheet(study, chosen, protocol, own, liked, scratch if protocol == FULL else {})
        sheets.append(sheet)
    return Result(figures, tuple(sheets))


def _sheet(
    study: Study,
    chosen: Sequence[Choice],
    protocol: str,
    right: Mapping[Columns, np.ndarray],
    liked: Mapping[Columns, float],
    scratch: Mapping[Columns, np.ndarray],
) -> tuple[Sheet, dict[str, Any]]:
    measure, trained = accuracy(right), accuracy(scratch)
    rows, records = [], []
    for choice in chosen:
        best_zoo = max(choice.zoo, key=lambda path: measure[path], default=None)
        gain = beaten(choice.pick, choice.zoo, right, study.seed)
        won = gain is not None and gain.low > 0
        beside = _beside(study, choice, measure, liked)
        ours = [measure[choice.pick], *beside.values()]
        rows.append(
            (
                f"{choice.limit:,}",
                str(len(choice.hybrids)),
                study.title(choice.pick),
                *cells(ours),
                "" if best_zoo is None else f"{study.title(best_zoo)} {measure[best_zoo]:.1f}",
                "" if gain is None else f"{gain}" + (" *" if won else ""),
                *cells([trained.get(choice.pick)] if scratch else []),
            )
        )
        record = {"limit": choice.limit, "pick": study.title(choice.pick), "pick_accuracy": measure[choice.pick]}
        record |= {"zoo_accuracy": best_zoo and measure[best_zoo], "from_scratch": trained.get(choice.pick)}
        records.append(record | beside | {"beats_zoo": won, "gain": None if gain is None else asdict(gain)})
    won_in_all = sum(record["beats_zoo"] for record in records)
    largest = max(record["regret"] for record in records)
    columns = ["params at most", "hybrids", "our pick", "%"]
    columns += ["random search", "exhaustive best", "regret"]
    columns += ["best zoo network", "pick - zoo, points [95 %]", *(["from scratch"] if scratch else [])]
    notes = f"The pick beats every zoo network within {won_in_all} of {len(records)} budgets (*, paired bootstrap over "
    notes += "test images)." + f" Largest regret {largest:.2f} points."
    sheet = Sheet(f"3. Under a budget, {protocol}: test accuracy, %", tuple(columns), tuple(rows), notes)
    hybrids = [{"params": study.problem.cost(path, "params"), "accuracy": measure[path]} for path in study.hybrids]
    found = {"regret_max": largest, "budgets": len(records), "won": won_in_all, "rows": records, "hybrids": hybrids}
    return sheet, found


def _beside(
    study: Study, choice: Choice, measure: Mapping[Columns, float], liked: Mapping[Columns, float]
) -> dict[str, float]:
    """Accuracy of the authors' random search and of the best hybrid within the budget, and the regret."""
    return {
        "random_search": random_pick(choice.hybrids, liked, measure, study.params.random_search, study.seed),
        "best_accuracy": max(measure[path] for path in choice.hybrids),
        "regret": regret(choice.hybrids, choice.pick, measure),
    }


def beaten(ours: Columns, zoo: Sequence[Columns], right: Mapping[Columns, np.ndarray], seed: int) -> Estimate | None:
    """The smallest gain over any zoo network, by the low end of its interval; None where there is no zoo network."""
    gains = [difference(right[ours], right[path], seed) for path in zoo]
    return min(gains, key=lambda gain: gain.low, default=None)
