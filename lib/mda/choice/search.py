"""Which combination of networks is best within a budget: all are looked at, or a neighbourhood of the program's."""

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from . import columns, selection
from .kept import Kept
from .offers import Problem
from .selection import Choice

ASSIGNMENTS = 2**16  # that are all looked at; of more, those near what the program proposes
PAIRS = 2**12  # of classes that change places at once, in the neighbourhood of one assignment
SHORT = 8  # assignments that are judged

Assignment = tuple[int, ...]
Looked = dict[Assignment, float]  # accuracies of legal ones
Judge = Callable[[dict[str, tuple[str, ...]]], float]


@dataclass(frozen=True)
class Proposals:
    """choices: the best, the best with fewer networks than that, and so on; accuracy and bound are those of `Kept`.

    looked_at: how many legal assignments were compared; is_complete: whether these are all, so that bounds are met.
    """

    choices: list[Choice]
    looked_at: int
    is_complete: bool


def propose(problem: Problem, kept: Kept, judge: Judge) -> Proposals:
    """The best combination within the budget by what whole networks say, the best with fewer networks, and so on.

    problem: with `Kept.at_best` as accuracies, which bound those of combinations.
    kept: what the networks say, each scaled by itself.
    judge: tasks -> accuracy; decides between the SHORT best, which it sees scaled together.

    Where there are no more than ASSIGNMENTS, all are compared; else the program's optimum, which is the best by what
    each class can have at best, and single networks are improved step by step: a class or two go to another network,
    two change places, a network hands over all. Raises as `selection.choose`.
    """
    selection.check_known(problem.classes, {source.name: source.accuracy for source in problem.sources})
    if columns.count(problem) <= selection.COLUMNS:
        for source in problem.sources:
            source.sets(problem.classes, problem.least)  # priced together, which is quicker than one by one
    knowing = [[m for m, source in enumerate(problem.sources) if c in source.accuracy] for c in problem.classes]
    if prod(map(len, knowing)) > ASSIGNMENTS:
        return _near(problem, kept, judge, knowing)
    looked = {one: kept.accuracy(one) for one in itertools.product(*knowing) if problem.is_legal(one)}
    if not looked:
        selection.choose(problem)  # says what to change
    found, limited = list[Choice](), problem
    while short := _best(limited, looked):
        found.append(_judged(problem, short, looked, looked[short[0]], judge))
        limited = replace(problem, most=len(found[-1].tasks) - 1)
    return Proposals(found, len(looked), is_complete=True)


def _near(problem: Problem, kept: Kept, judge: Judge, knowing: Sequence[Sequence[int]]) -> Proposals:
    """Where there are too many combinations to look at all."""
    looked, found, limited = Looked(), list[Choice](), problem
    start: Choice | None = selection.choose(problem)
    while start is not None:
        alone = [(m,) * len(problem.classes) for m in range(len(problem.sources))]
        _spread(limited, kept, [start.assignment(problem), *filter(limited.is_legal, alone)], knowing, looked)
        found.append(_judged(problem, _best(limited, looked), looked, start.bound, judge))
        limited = replace(problem, most=len(found[-1].tasks) - 1)
        start = selection.within(limited) if limited.most else None
    return Proposals(found, len(looked), is_complete=False)


def _judged(problem: Problem, short: Sequence[Assignment], looked: Looked, bound: float, judge: Judge) -> Choice:
    """The one of a few that is best by `judge`, of equal ones the smaller."""
    own = [Choice(problem.tasks(one), looked[one], bound, problem.cost(one)) for one in short]
    return max(own, key=lambda choice: (judge(choice.tasks), -choice.cost.params))


def _best(problem: Problem, looked: Looked) -> list[Assignment]:
    """The SHORT best of those that are legal, of equal ones the smaller."""
    most = len(problem.sources) if problem.most is None else problem.most
    legal = [one for one in looked if len({*one}) <= most]
    least = min(heapq.nlargest(SHORT, map(looked.__getitem__, legal)), default=0.0)
    near = [one for one in legal if looked[one] >= least]
    return sorted(near, key=lambda one: (-looked[one], problem.cost(one).params, one))[:SHORT]


def _spread(
    problem: Problem, kept: Kept, starts: Sequence[Assignment], knowing: Sequence[Sequence[int]], looked: Looked
) -> None:
    """Looks at the neighbours of `starts`, then of what is best, until those of the SHORT best have been looked at; the
    SHORT best legal ones of each neighbourhood are noted.
    """
    looked.update({one: kept.accuracy(one) for one in starts})
    done = set[Assignment]()
    while ahead := [one for one in _best(problem, looked) if one not in done]:
        done.add(ahead[0])
        values = {one: kept.accuracy(one) for one in _neighbours(ahead[0], knowing)}
        likely = sorted(values, key=lambda one: (-values[one], one))
        looked.update({one: values[one] for one in itertools.islice(filter(problem.is_legal, likely), SHORT)})


def _neighbours(at: Assignment, knowing: Sequence[Sequence[int]]) -> Iterator[Assignment]:
    """What differs in one class, in two, or in all that one network has."""
    for c, sources in enumerate(knowing):
        for m in sources:
            if m != at[c]:
                yield _moved(at, {c: m})
    for m, to in itertools.permutations(sorted({*itertools.chain(*knowing)}), 2):
        own = [c for c, source in enumerate(at) if source == m]
        if len(own) > 1 and all(to in knowing[c] for c in own):
            yield _moved(at, dict.fromkeys(own, to))
    pairs = list(itertools.combinations(range(len(at)), 2))
    for c, d in pairs if len(pairs) <= PAIRS else ():
        if at[c] != at[d] and at[d] in knowing[c] and at[c] in knowing[d]:
            yield _moved(at, {c: at[d], d: at[c]})
        for m in sorted({*knowing[c]} & {*knowing[d]} - {at[c], at[d]}):
            yield _moved(at, {c: m, d: m})


def _moved(at: Assignment, to: Mapping[int, int]) -> Assignment:
    return tuple(to.get(c, m) for c, m in enumerate(at))
