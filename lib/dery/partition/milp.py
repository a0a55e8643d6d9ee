"""The partition as an integer program in transport form: Pyomo, solved by HiGHS.

Every network is a path through its legal blocks; every set chooses one block as anchor. The rows at which the
networks' blocks of a set start are matched with the row at which the anchor starts, and so are their ends: a
transport from one to the other, whose costs are the scores.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyomo.environ as pyo

from ...base import program
from .space import CutSpace


@dataclass(frozen=True)
class MilpSolution:
    """rows: cuts [N, K+1]; bound: on J over all partitions whose anchors are among the candidates."""

    rows: np.ndarray
    bound: float


def solve(space: CutSpace, candidates: list[np.ndarray], gap: float) -> MilpSolution:
    """The best cuts whose anchors are among `candidates` [2, C] of each set, to a relative gap."""
    model = _model(space, candidates)
    solution = program.solve(model, gap)
    assert solution.bound is not None  # the problem has passed its check
    rows = np.zeros((len(space.problem.names), space.problem.num_blocks + 1), int)
    for (k, start, end), variable in model.block.items():
        if variable.value > 0.5:
            rows[space.owner[k][start], k : k + 2] = start, end
    return MilpSolution(rows, solution.bound)


def _model(space: CutSpace, candidates: list[np.ndarray]) -> Any:
    """block[k, i, j]: the network that owns rows i and j has this block in set k; anchor[k, i, j]: it is the anchor.

    from_start_k[i, a]: set k has a block that starts at row i, and its anchor starts at row a; from_end_k likewise.
    """
    model = cast(Any, pyo.ConcreteModel())
    block: Any = pyo.Var(_triples(space.blocks), domain=pyo.Binary)
    anchor: Any = pyo.Var(_triples(candidates), domain=pyo.Binary)
    rules: Any = pyo.ConstraintList()
    model.block, model.anchor, model.rules = block, anchor, rules
    block_at, anchor_at = _by_end(block), _by_end(anchor)
    for k, owner in enumerate(space.owner[:-1]):
        for row in range(len(owner)):
            starting = sum(block_at["start", k, row])
            rules.add(starting == (sum(block_at["end", k, row]) if k else 1))
    terms = []
    for k in range(len(candidates)):
        rules.add(sum(anchor[k, :, :]) == 1)
        for end, boundary, scores in (("start", k, space.start[k]), ("end", k + 1, space.end[k])):
            columns = np.unique(candidates[k][0 if end == "start" else 1])
            pairs = [(i, int(columns[c])) for i, c in np.argwhere(np.isfinite(scores[:, columns])).tolist()]
            flow: Any = pyo.Var(pairs, domain=pyo.NonNegativeReals)
            model.add_component(f"from_{end}_{k}", flow)
            sent, received = defaultdict(list), defaultdict(list)
            for i, a in pairs:
                sent[i].append(flow[i, a])
                received[int(space.owner[boundary][i]), a].append(flow[i, a])
                terms.append(float(scores[i, a]) * flow[i, a])
            for i in range(len(scores)):
                rules.add(sum(sent[i]) == sum(block_at[end, boundary, i]))
            for (_, a), arriving in received.items():
                rules.add(sum(arriving) == sum(anchor_at[end, boundary, a]))
    model.objective = pyo.Objective(expr=sum(terms), sense=pyo.maximize)
    return model


def _triples(blocks: list[np.ndarray]) -> list[tuple[int, int, int]]:
    return [(k, i, j) for k, own in enumerate(blocks) for i, j in own.T.tolist()]


def _by_end(variables: Any) -> dict[tuple[str, int, int], list[Any]]:
    """The variables of the blocks that start, or end, at a row of a boundary."""
    found: dict[tuple[str, int, int], list[Any]] = defaultdict(list)
    for (k, i, j), variable in variables.items():
        found["start", k, i].append(variable)
        found["end", k + 1, j].append(variable)
    return found
