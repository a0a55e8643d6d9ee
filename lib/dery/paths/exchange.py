"""The search of the authors' code (DeRy, section 3.4): greedy exchanges of blocks in random order, for controls."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from .problem import AssemblyProblem, Candidate
from .tables import Columns

IDLE = 100  # rounds without a candidate that is new, after which the search ends


@dataclass(frozen=True)
class Exchanged:
    """evaluated: the different candidates that were looked at, in that order, each with what the objective says of it;
    rounds: begun.
    """

    evaluated: tuple[tuple[Candidate, float], ...]
    rounds: int

    @property
    def best(self) -> Candidate | None:
        """The one with the highest value, of equal ones the first; None where none was found."""
        return max(self.evaluated, key=lambda one: one[1])[0] if self.evaluated else None


def exchange(
    problem: AssemblyProblem, objective: Callable[[Candidate], float | None], evaluations: int, seed: int
) -> Exchanged:
    """Looks for the feasible candidate with the highest value by exchanging blocks.

    A round takes all blocks in random order. One whose place is empty fills it; each other one takes the place of the
    block that is there, if the candidate is whole and feasible then and better than all that the round has seen. The
    next round begins anew.

    problem: limits, lower and upper ones, and rules on sources and blocks; its scores are not looked at.
    objective: of a candidate, higher is better, None or NaN is worst; called once for each.
    evaluations: different candidates that are evaluated, at most; less where round after round shows none that is new.
        More of them begin with the same ones.
    seed: of the orders.

    Differs from the paper: its text speaks of an integer program, its code does this; no rule there on the number of
    sources, and one, not here, that no convolution follows a transformer. There an incomplete candidate that cannot be
    built marks places as taken, here it changes nothing; there every look is an evaluation, here one of each candidate.
    """
    generator = np.random.default_rng(seed)
    blocks = np.argwhere(problem.open_blocks).tolist()
    known: dict[Columns, tuple[Candidate, float]] = {}
    rounds = idle = 0
    while len(known) < evaluations and idle < IDLE:
        rounds, before = rounds + 1, len(known)
        taken: dict[int, int] = {}
        highest = -inf
        for k, m in generator.permutation(blocks).tolist() if blocks else ():
            if k not in taken:
                taken[k] = m
                continue
            other = {**taken, k: m}
            path = tuple(other[place] for place in sorted(other))
            if len(path) < problem.sets or not problem.feasible(path):
                continue
            if path not in known:
                if len(known) == evaluations:
                    break
                candidate = Candidate.of(problem, path)
                known[path] = (candidate, _value(objective(candidate)))
            if known[path][1] > highest:
                taken, highest = other, known[path][1]
        idle = idle + 1 if len(known) == before else 0
    return Exchanged(tuple(known.values()), rounds)


def _value(said: float | None) -> float:
    return -inf if said is None or said != said else said
