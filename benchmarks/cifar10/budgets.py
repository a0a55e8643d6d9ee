"""Table 3: under a budget, our pick beside the authors' random search, the exhaustive best and the zoo."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.cifar10.hybrids import measured
from benchmarks.cifar10.predictors import few_shot, switches
from benchmarks.cifar10.statistics import Estimate, affordable, difference, pick, random_pick, regret
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import from_scratch, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.dery.assembly.problem import Path

UNTRAINED, REFITTED = "without training", "without training, layers refitted"
FROZEN, FULL = "frozen", "frozen, then full"


@dataclass(frozen=True)
class Choice:
    """Within a budget, `limit` parameters: all hybrids, our pick, and the zoo networks."""

    limit: int
    hybrids: tuple[Path, ...]
    pick: Path
    zoo: tuple[Path, ...]


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


def table(study: Study, tune: bool) -> Result:
    """A sheet a tuning protocol, a row a budget, and how many budgets are won."""
    chosen = choices(study, "recalibrated")
    right = measured(study, tune)
    liked = switches(study, "recalibrated")
    sheets, figures = [], {}
    rights: dict[str, Mapping[Path, np.ndarray]] = {UNTRAINED: right["recalibrated"]}
    scratch: Mapping[Path, np.ndarray] = {}
    if "layers" in right:
        rights[REFITTED] = {path: right["recalibrated"][path] for path in study.sources} | right["layers"]
    if tune:
        networks = study.networks("recalibrated", [*study.sources, *study.hybrids])
        rights |= {FROZEN: right["frozen"], FULL: tuned(study, networks, ["frozen", "full"])}
        scratch = from_scratch(study, {path: networks[path] for path in dict.fromkeys(c.pick for c in chosen)})
    for protocol, own in rights.items():
        within = choices(study, "layers") if protocol == REFITTED else chosen
        sheet, figures[protocol] = _sheet(study, within, protocol, own, liked, scratch if protocol == FULL else {})
        sheets.append(sheet)
    return Result(figures, tuple(sheets))


def _sheet(
    study: Study,
    chosen: Sequence[Choice],
    protocol: str,
    right: Mapping[Path, np.ndarray],
    liked: Mapping[Path, float],
    scratch: Mapping[Path, np.ndarray],
) -> tuple[Sheet, dict[str, Any]]:
    measure = accuracy(right)
    trained = accuracy(scratch)
    rows, regrets, won, records = [], [], [], []
    for choice in chosen:
        searched = random_pick(choice.hybrids, liked, measure, study.params.random_search, study.seed)
        best = max(choice.hybrids, key=lambda path: measure[path])
        rival = max(choice.zoo, key=lambda path: measure[path], default=None)
        gain = beaten(choice.pick, choice.zoo, right, study.seed)
        regrets.append(regret(choice.hybrids, choice.pick, measure))
        won.append(gain is not None and gain.low > 0)
        rows.append(
            (
                f"{choice.limit:,}",
                str(len(choice.hybrids)),
                study.title(choice.pick),
                *cells([measure[choice.pick], searched, measure[best], regrets[-1]]),
                "" if rival is None else f"{study.title(rival)} {measure[rival]:.1f}",
                "" if gain is None else f"{gain}" + (" *" if won[-1] else ""),
                *cells([trained.get(choice.pick)] if scratch else []),
            )
        )
        record = {"limit": choice.limit, "pick": study.title(choice.pick), "pick_accuracy": measure[choice.pick]}
        record |= {"random_search": searched, "best": study.title(best), "best_accuracy": measure[best]}
        records.append(record | {"beats_zoo": won[-1], "gain": None if gain is None else asdict(gain)})
    columns = ("params at most", "hybrids", "our pick", "%", "random search", "exhaustive best", "regret")
    columns += ("best zoo network", "pick - zoo, points [95 %]", *(["from scratch"] if scratch else []))
    notes = (
        f"Largest regret {max(regrets):.2f} points; the pick beats every zoo network within {sum(won)} of {len(won)} "
    )
    notes += "budgets (*, paired bootstrap over test images)."
    sheet = Sheet(f"3. Under a budget, {protocol}: test accuracy, %", columns, tuple(rows), notes)
    return sheet, {"regret_max": max(regrets), "budgets": len(won), "won": sum(won), "rows": records}


def beaten(ours: Path, zoo: Sequence[Path], right: Mapping[Path, np.ndarray], seed: int) -> Estimate | None:
    """The smallest gain over any zoo network, by the low end of its interval; None where there is no zoo network."""
    gains = [difference(right[ours], right[path], seed) for path in zoo]
    return min(gains, key=lambda gain: gain.low, default=None)
