"""Table 3: under a budget, our pick beside the authors' random search, the exhaustive best and the zoo."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.dery.paths.tables import Columns
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.run import Run
from stages import run
from studies.cifar10.bootstrap import Estimate, affordable, difference, pick, random_pick, regret
from studies.cifar10.group import START, Group, Measured, accuracy, read_right
from studies.sheet import Result, Sheet, cells

UNTRAINED, REFITTED = "without training", "without training, layers refitted"
FROZEN, FULL = "frozen", "frozen, then full"


@dataclass(frozen=True)
class Choice:
    """Within a budget, `limit` parameters: all hybrids, our pick, and the zoo networks."""

    limit: int
    hybrids: tuple[Columns, ...]
    pick: Columns
    zoo: tuple[Columns, ...]


def main(cut: Path, untrained: Path, tuned: Path, scratch: Path, metrics: Path) -> None:
    """Writes the table to `metrics`.

    cut: folder of the group.
    untrained, tuned: of those stages, all items.
    scratch: of the stage of that name.
    """
    table(Measured(Group.load(cut), untrained, tuned), scratch).save(metrics)


def choices(measured: Measured, setting: str) -> list[Choice]:
    """One for each of the hybrids' own numbers of parameters as a budget; no test image is looked at."""
    group, pool = measured.group, read("assembly", Assembly).pool
    params = {path: float(group.worth[path].params) for path in [*group.hybrids, *group.sources]}
    score = {path: group.score(path) for path in group.hybrids}
    again = measured.few(setting)
    found = []
    for limit in sorted({params[path] for path in group.hybrids}):
        hybrids = affordable({path: params[path] for path in group.hybrids}, limit)
        zoo = affordable({path: params[path] for path in group.sources}, limit)
        found.append(Choice(int(limit), tuple(hybrids), pick(hybrids, score, again, pool), tuple(zoo)))
    return found


def table(measured: Measured, scratch: Path | None = None) -> Result:
    """A sheet a tuning protocol, a row a budget, and how many budgets are won.

    scratch: folder of the picks that learned from random weights; without it nothing is said of networks that learn
    whole.
    """
    protocols = {UNTRAINED: "recalibrated", REFITTED: START, FROZEN: "frozen", FULL: "full"}
    known = {*measured.all_settings, *(["full"] if scratch else [])}
    sheets, figures = [], {}
    for protocol, setting in protocols.items():
        if setting not in known:
            continue
        right = measured.right(setting)
        chosen = choices(measured, setting if setting in measured.settings else START)
        liked = measured.predicted(setting if setting in measured.settings else START)["naswot"]
        learned: dict[Columns, np.ndarray] = {}
        if scratch and protocol == FULL:
            learned = read_right(scratch, "scratch", [chosen[0].pick, chosen[-1].pick])
        sheet, figures[protocol] = _sheet(measured.group, chosen, protocol, right, liked, learned)
        sheets.append(sheet)
    return Result(figures, tuple(sheets))


def _sheet(
    group: Group,
    chosen: Sequence[Choice],
    protocol: str,
    right: Mapping[Columns, np.ndarray],
    liked: Mapping[Columns, float],
    scratch: Mapping[Columns, np.ndarray],
) -> tuple[Sheet, dict[str, Any]]:
    measure, trained, seed = accuracy(right), accuracy(scratch), read("run", Run).seed
    rows, records = [], []
    for choice in chosen:
        best_zoo = max(choice.zoo, key=lambda path: measure[path], default=None)
        gain = beaten(choice.pick, choice.zoo, right, seed)
        won = gain is not None and gain.low > 0
        beside = _beside(choice, measure, liked)
        ours = [measure[choice.pick], *beside.values()]
        rows.append(
            (
                f"{choice.limit:,}",
                str(len(choice.hybrids)),
                group.title(choice.pick),
                *cells(ours),
                "" if best_zoo is None else f"{group.title(best_zoo)} {measure[best_zoo]:.1f}",
                "" if gain is None else f"{gain}" + (" *" if won else ""),
                *cells([trained.get(choice.pick)] if scratch else []),
            )
        )
        record = {"limit": choice.limit, "pick": group.title(choice.pick), "pick_accuracy": measure[choice.pick]}
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
    hybrids = [{"params": group.worth[path].params, "accuracy": measure[path]} for path in group.hybrids]
    found = {"regret_max": largest, "budgets": len(records), "won": won_in_all, "rows": records, "hybrids": hybrids}
    return sheet, found


def _beside(choice: Choice, measure: Mapping[Columns, float], liked: Mapping[Columns, float]) -> dict[str, float]:
    """Accuracy of the authors' random search and of the best hybrid within the budget, and the regret."""
    count, seed = read("assembly", Assembly).random_search, read("run", Run).seed
    return {
        "random_search": random_pick(choice.hybrids, liked, measure, count, seed),
        "best_accuracy": max(measure[path] for path in choice.hybrids),
        "regret": regret(choice.hybrids, choice.pick, measure),
    }


def beaten(ours: Columns, zoo: Sequence[Columns], right: Mapping[Columns, np.ndarray], seed: int) -> Estimate | None:
    """The smallest gain over any zoo network, by the low end of its interval; None where there is no zoo network."""
    gains = [difference(right[ours], right[path], seed) for path in zoo]
    return min(gains, key=lambda gain: gain.low, default=None)


if __name__ == "__main__":
    run(main)
