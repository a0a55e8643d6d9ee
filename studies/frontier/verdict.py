"""Who wins: ours beside the rival that validation picks, within one budget after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.dery.paths.tables import Kind
from studies.cifar10.bootstrap import Estimate, difference, holm, sign_test
from studies.frontier.questions import Entrant
from studies.sheet import Sheet

COLUMNS = ("budget", "ours", "%", "rival that validation picks", "%", "ours - rival [95 %]", "best rival on test, %")
NOTES = (
    "*: won, the interval of the paired bootstrap over test images is above 0; **: so, too, after Holm's correction "
    "for all budgets of the table (sign test)."
)


@dataclass(frozen=True)
class Contest:
    """Within one budget: our choice, and all that could be chosen instead; stronger: so, too, with those that have
    got what is ours.
    """

    kind: Kind
    limit: float
    ours: Entrant
    rivals: tuple[Entrant, ...]
    stronger: tuple[Entrant, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """rival: the best on validation images; oracle: on test images; margin: ours minus the rival on these, in points;
    chance: of the sign test.
    """

    contest: Contest
    rival: Entrant
    oracle: Entrant
    margin: Estimate
    chance: float

    @property
    def won(self) -> bool:
        """Whether ours is better beyond chance."""
        return self.margin.low > 0


def on_validation(entrants: Sequence[Entrant]) -> Entrant:
    """The best on all validation images; equal ones are told apart by their order, here and below."""
    return max(entrants, key=lambda one: one.validation)


def on_picking(entrants: Sequence[Entrant]) -> Entrant:
    """The best on those that have fitted nothing."""
    return max(entrants, key=lambda one: one.picking)


def on_either(entrants: Sequence[Entrant]) -> Entrant:
    """The best on all of them whose heads were not fitted to any, unless one whose heads were is ahead of it on those
    that have fitted nothing.
    """
    plain = [one for one in entrants if not one.fitted]
    return on_picking([*([on_validation(plain)] if plain else []), *(one for one in entrants if one.fitted)])


def verdict(contest: Contest, seed: int, pick: Callable[[Sequence[Entrant]], Entrant] = on_validation) -> Verdict:
    """Of one contest; pick: chooses the rival."""
    rival = pick(contest.rivals)
    oracle = max(contest.rivals, key=lambda one: one.test)
    ours = contest.ours.right
    return Verdict(contest, rival, oracle, difference(ours, rival.right, seed), sign_test(ours, rival.right))


def figures(found: Sequence[Verdict]) -> dict[str, Any]:
    """Of all budgets: how many are won, so after Holm's correction, and tied; regret is what the rival has more than
    ours, in points; beside the oracle: ours minus the rival that is best on test images.
    """
    margins = [one.margin.value for one in found]
    left = holm([one.chance for one in found])
    return {
        "budgets": len(found),
        "won": sum(one.won for one in found),
        "won_after_holm": sum(one.won and kept for one, kept in zip(found, left, strict=True)),
        "tied": sum(margin == 0 for margin in margins),
        "worst_regret_points": max(0.0, -min(margins)),
        "mean_margin_points": float(np.mean(margins)),
        "oracle_margin_points": float(np.mean([one.contest.ours.test - one.oracle.test for one in found])),
        "ahead_of_oracle": sum(one.contest.ours.test > one.oracle.test for one in found),
    }


def sheet(title: str, found: Sequence[Verdict]) -> Sheet:
    """A row a budget."""
    left = holm([one.chance for one in found])
    marks = [" **" if one.won and kept else " *" if one.won else "" for one, kept in zip(found, left, strict=True)]
    rows = tuple(_row(one, mark) for one, mark in zip(found, marks, strict=True))
    return Sheet(title, COLUMNS, rows, NOTES)


def _row(found: Verdict, mark: str) -> tuple[str, ...]:
    ours, contest = found.contest.ours, found.contest
    return (
        f"{contest.limit:,.0f} {contest.kind}",
        ours.name,
        f"{ours.test:.2f}",
        found.rival.name,
        f"{found.rival.test:.2f}",
        f"{found.margin}{mark}",
        f"{found.oracle.test:.2f}",
    )
