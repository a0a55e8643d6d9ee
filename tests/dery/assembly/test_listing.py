"""Tables of what the assembly found."""

import numpy as np
import pytest

from lib.dery.assembly import listing
from lib.dery.paths import pareto, search
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.tables import Table
from tests.dery.paths.instances import cut


@pytest.mark.parametrize("least", [205.0, 210.0, 230.0, 250.0])
@pytest.mark.parametrize("limit", [239.0, 240.0])
def test_points_are_within_the_budget_where_the_search_says_so(least: float, limit: float) -> None:
    """Blocks of 100 parameters, a stitch of 40, 10 at least: lower limits hold for the cheapest form."""
    apart = 1 - np.eye(2)[None]
    blocks, zero = np.full((2, 2), 100.0), np.zeros((2, 2))
    problem = AssemblyProblem(
        cut(["m0", "m1"], 2),
        Table(zero, -0.1 * apart),
        {"params": Table(blocks, 40 * apart)},
        limits={"params": limit},
        at_least={"params": least},
        cheapest={"params": Table(blocks, 10 * apart)},
        min_sources=2,
    )
    (point,) = listing.points(pareto.frontier(problem, "params"), "params", problem)
    assert point["cost"] == 240
    assert point["within_budget"] is bool(search.best(problem, 1).candidates)
    assert point["within_budget"] == (least <= 210 and limit >= 240)
