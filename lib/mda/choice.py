"""Which network supplies which class, so that an assembly within a budget is as accurate as can be predicted.

The parts are components (MDA), the architect is an integer program (as in DeRy, Eq. 8-11), solved by HiGHS.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, cast

import pyomo.environ as pyo
import torch
from torch import nn

from lib import program
from lib.channels import Coupling
from lib.cost import Cost
from lib.errors import BrickyardError

Needed = frozenset[str]  # the classes that need a channel; channels that the same classes need cost alike
Prices = Mapping[frozenset[Needed], Cost]


def prices(
    model: nn.Module, coupling: Coupling, masks: Mapping[str, torch.Tensor], classes: Sequence[str]
) -> dict[frozenset[Needed], Cost]:
    """What parts of a network cost, by who needs them: a weight between two channels is there when both are.

    masks: layer name -> bool [classes, channels]. A component with some classes pays each price whose every set of
    classes holds one of its own, and pays it once, however many of them share it. Exact, not an estimate: a component's
    parameters and MACs are the sum.
    """
    everyone = frozenset(classes)
    needed = dict.fromkeys(range(coupling.count), everyone)
    for layer in coupling.layers:
        for channel, column in zip(layer.outputs, masks[layer.name].T.tolist(), strict=True):
            if channel not in coupling.fixed:
                needed[channel] = frozenset(name for name, wanted in zip(classes, column, strict=True) if wanted)
    params: Counter[frozenset[Needed]] = Counter()
    macs: Counter[frozenset[Needed]] = Counter()
    for path, tensor in model.named_parameters():
        axes = coupling.axes.get(path, (None,) * tensor.ndim)
        each = prod(length for length, row in zip(tensor.shape, axes, strict=True) if row is None)
        for who, count in _together([row for row in axes if row is not None], needed):
            params[who or frozenset({everyone})] += each * count
    for layer in coupling.layers:
        rows = [layer.outputs] if layer.groups > 1 else [layer.outputs, layer.inputs]
        for who, count in _together(rows, needed):
            macs[who] += layer.macs // prod(map(len, rows)) * count
    return {who: Cost(params[who], macs[who]) for who in {**params, **macs} if all(who)}


def _together(rows: Sequence[Sequence[int]], needed: Mapping[int, Needed]) -> list[tuple[frozenset[Needed], int]]:
    """How many combinations of one channel of each row the same sets of classes need."""
    counted = [Counter(needed[channel] for channel in row).items() for row in rows]
    return [
        (frozenset(who for who, _ in combination), prod(count for _, count in combination))
        for combination in itertools.product(*counted)
    ]


@dataclass(frozen=True)
class Source:
    """A network that can supply classes. accuracy: class -> validation accuracy on its images, in percent."""

    name: str
    accuracy: Mapping[str, float]
    prices: Prices

    def cost(self, classes: Collection[str]) -> Cost:
        """Parameters and MACs of its component with these classes; nothing without classes."""
        paid = [cost for who, cost in self.prices.items() if all(not one.isdisjoint(classes) for one in who)]
        return Cost(sum(cost.params for cost in paid), sum(cost.macs for cost in paid)) if classes else Cost()

    def of(self, classes: Collection[str]) -> "Source":
        """The same without other classes."""
        left: dict[frozenset[Needed], Cost] = {}
        for who, cost in self.prices.items():
            key = frozenset(one.intersection(classes) for one in who)
            if all(key):
                left[key] = left.get(key, Cost()) + cost
        known = {name: self.accuracy[name] for name in classes if name in self.accuracy}
        return Source(self.name, known, left)


@dataclass(frozen=True)
class Problem:
    """classes: in the order of the outputs; params, macs: of the whole assembly in parallel form, None = no limit;
    least: classes that a source supplies if it supplies any (a component with one class answers it for every image).
    """

    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    params: float | None = None
    macs: float | None = None
    least: int = 1

    @cached_property
    def limits(self) -> dict[str, float]:
        """Those that there are."""
        both = {"params": self.params, "macs": self.macs}
        return {kind: limit for kind, limit in both.items() if limit is not None}

    def taken(self, assignment: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Source -> the classes that an assignment takes from it; sources without any are left out."""
        taken: dict[int, tuple[str, ...]] = {}
        for name, source in zip(self.classes, assignment, strict=True):
            taken[source] = (*taken.get(source, ()), name)
        return taken

    def cost(self, assignment: Sequence[int]) -> Cost:
        """Of an assembly: the sum over its components."""
        return sum((self.sources[source].cost(names) for source, names in self.taken(assignment).items()), Cost())

    def accuracy(self, assignment: Sequence[int]) -> float:
        """Predicted, in percent: the mean over classes of their source's, as if no component shouted others down."""
        found = [self.sources[source].accuracy[name] for name, source in zip(self.classes, assignment, strict=True)]
        return sum(found) / len(found)


@dataclass(frozen=True)
class Choice:
    """tasks: source name -> the classes that it supplies; accuracy: predicted, in percent; bound: proven, on that."""

    tasks: dict[str, tuple[str, ...]] = field(hash=False)
    accuracy: float
    bound: float
    cost: Cost


def choose(problem: Problem) -> Choice:
    """The assignment with the highest predicted accuracy within the budget, of several the one with fewest parameters.

    Raises BrickyardError for a class that no source knows, and where no assignment is within the budget.
    """
    for name in problem.classes:
        if not any(name in source.accuracy for source in problem.sources):
            raise BrickyardError(
                f"lego.choose.classes: none of {', '.join(s.name for s in problem.sources)} knows class {name!r}; "
                "leave it out or add a network that does to lego.choose.models"
            )
    model = _model(problem)
    found = _best(problem, model)
    if found is None:
        raise BrickyardError(_refusal(problem))
    bound = found[1]
    model.as_good = pyo.Constraint(expr=model.accuracy.expr >= problem.accuracy(found[0]) - 1e-6)
    model.accuracy.deactivate()
    model.cheap = pyo.Objective(expr=_total(model, problem, "params") / _scale(problem, "params"))
    cheapest = _best(problem, model)
    assignment = found[0] if cheapest is None else cheapest[0]
    tasks = {problem.sources[m].name: names for m, names in sorted(problem.taken(assignment).items())}
    return Choice(tasks, problem.accuracy(assignment), bound, problem.cost(assignment))


def _model(problem: Problem) -> Any:
    """x[c, m]: network m supplies class c; there[m, S]: the channels that the classes S need are in m's component;
    paid: one of its prices is. Only x is integer: the others follow.
    """
    model = cast(Any, pyo.ConcreteModel())
    sources = [source.of(problem.classes) for source in problem.sources]
    known = [(c, m) for m, source in enumerate(sources) for c in source.accuracy]
    x: Any = pyo.Var(known, domain=pyo.Binary)
    variables: Any = pyo.VarList(domain=pyo.NonNegativeReals)
    follow: Any = pyo.ConstraintList()
    model.x, model.variables, model.follow = x, variables, follow
    model.one = pyo.Constraint(
        problem.classes, rule=lambda b, c: sum(b.x[c, m] for m in range(len(sources)) if (c, m) in b.x) == 1
    )
    model.excluded = pyo.ConstraintList()
    there: dict[Any, Any] = {}
    model.costs = []
    for m, source in enumerate(sources):
        for who, cost in source.prices.items():
            for one in who:
                if (m, one) not in there:
                    there[m, one] = variables.add()
                    for c in sorted(one):
                        follow.add(there[m, one] >= x[c, m])
            paid = there[m, next(iter(who))]
            if len(who) > 1:
                paid = variables.add()
                follow.add(paid >= sum(there[m, one] for one in who) - len(who) + 1)
                for c in sorted(frozenset.intersection(*who)):
                    follow.add(paid >= x[c, m])
            model.costs.append((cost, paid))
        for c in source.accuracy:
            others = sum(x[d, m] for d in source.accuracy)
            if problem.least > 1:
                follow.add(others >= problem.least * x[c, m])
    for kind in problem.limits:
        limit = pyo.Constraint(expr=_total(model, problem, kind) / _scale(problem, kind) <= 1)
        model.add_component(f"{kind}_budget", limit)
    mean = sum(sources[m].accuracy[c] * x[c, m] for c, m in known) / len(problem.classes)
    model.accuracy = pyo.Objective(expr=mean, sense=pyo.maximize)
    return model


def _total(model: Any, problem: Problem, kind: str) -> Any:
    return sum(getattr(cost, kind) * paid for cost, paid in model.costs)


def _scale(problem: Problem, kind: str) -> float:
    """A number of the order of a cost: its limit, or all sources with everything."""
    whole = sum(getattr(source.cost(problem.classes), kind) for source in problem.sources)
    return problem.limits.get(kind, max(whole, 1))


def _best(problem: Problem, model: Any) -> tuple[list[int], float] | None:
    """The optimum and the bound; what keeps a limit only within HiGHS's tolerance is excluded."""
    while (solution := program.solve(model)).status != "infeasible":
        chosen = {c: m for (c, m), variable in model.x.items() if variable.value > 0.5}
        assignment = [chosen[name] for name in problem.classes]
        if problem.cost(assignment).within(**problem.limits):
            return assignment, float(cast(float, solution.bound))
        model.excluded.add(sum(model.x[c, m] for c, m in chosen.items()) <= len(chosen) - 1)
    return None


def _refusal(problem: Problem) -> str:
    """One line that says what to change where no assignment is within the budget."""
    least = {}
    for kind in ("params", "macs"):
        free = Problem(problem.classes, problem.sources, least=problem.least)
        model = _model(free)
        model.accuracy.deactivate()
        model.cheap = pyo.Objective(expr=_total(model, free, kind) / _scale(free, kind))
        found = _best(free, model)
        if found is None:
            return (
                f"lego.choose.least = {problem.least}: networks know too few of the classes to supply so many; lower it"
            )
        least[kind] = getattr(free.cost(found[0]), kind)
    short = [kind for kind, limit in problem.limits.items() if limit < least[kind]] or list(problem.limits)
    wanted = " and ".join(
        f"{kind} = {problem.limits[kind]:,.0f} (with all else free, the least is {least[kind]:,})" for kind in short
    )
    return f"lego.choose.budget: no choice of components is within {wanted}; raise it, or contributions' thresholds"
