"""A problem whose costs depend on where a run of blocks begins, as one whose costs add up."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .problem import ANYWHERE, AssemblyProblem
from .tables import Columns, Table


def unroll(problem: AssemblyProblem) -> AssemblyProblem:
    """The same problem, exact, without `shared`: a network with costs there has one column for each set in which a run
    of its blocks may begin, each other column is one. Paths keep their order: equal up to a place, they run in the same
    columns up to there. Without `shared`, the problem itself.
    """
    wide = {m for saved in problem.shared.values() for m in np.flatnonzero(saved.any((1, 2))).tolist()}
    if not wide:
        return problem
    columns = [
        (column, begin)
        for column, m in enumerate(problem.networks)
        for begin in (range(problem.sets) if m in wide else (ANYWHERE,))
    ]
    owners = np.array([column for column, _ in columns])
    costs = {kind: _table(table, owners) for kind, table in problem.costs.items()}
    cheapest = {kind: _table(table, owners) for kind, table in problem.cheapest.items()}
    for kind, saved in problem.shared.items():
        for tables in (costs, cheapest):
            if kind in tables:
                tables[kind] = _lowered(tables[kind], columns, saved, problem.networks)
    return replace(
        problem,
        blocks=tuple(tuple(row[column] for column in owners) for row in problem.blocks),
        scores=_table(problem.scores, owners),
        costs=costs,
        cheapest=cheapest,
        shared={},
        absent=frozenset((k, i) for i, (column, _) in enumerate(columns) for k, own in problem.absent if own == column),
        columns=tuple(columns),
    )


def rolled(unrolled: AssemblyProblem, path: Columns, problem: AssemblyProblem) -> Columns:
    """A path of what `unroll` gave for `problem`, as one of `problem`."""
    return path if unrolled is problem else tuple(unrolled.columns[column][0] for column in path)


def _table(table: Table, owners: np.ndarray) -> Table:
    return Table(table.blocks[:, owners], table.stitches[:, owners][:, :, owners])


def _lowered(table: Table, columns: Sequence[tuple[int, int]], saved: np.ndarray, networks: Sequence[int]) -> Table:
    """Every step of a run costs less by what is saved when the run is one block longer."""
    stitches = table.stitches.copy()
    for column, (own, begin) in enumerate(columns):
        m = networks[own]
        for k in range(begin, len(stitches)) if begin != ANYWHERE else ():
            stitches[k, column, column] -= saved[m, begin, k + 1] - saved[m, begin, k]
    return Table(table.blocks, stitches)
