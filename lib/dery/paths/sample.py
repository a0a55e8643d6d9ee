"""Candidates at random: the authors' search space without a search (DeRy, section 3.4), for controls."""

import numpy as np

from .problem import AssemblyProblem, Candidate
from .tables import Columns


def random_candidates(problem: AssemblyProblem, count: int, seed: int) -> list[Candidate]:
    """Distinct feasible candidates drawn uniformly, fewer if there are fewer within 100 tries each.

    More of them begin with the same ones. problem: the authors' has blocks in their whole forms alone.
    """
    generator = np.random.default_rng(seed)
    found: dict[Columns, None] = {}
    required = {k: problem.networks.index(m) for k, m in problem.required_blocks}
    for _ in range(100 * count):
        drawn = dict(enumerate(generator.integers(problem.choices, size=problem.sets).tolist()))
        path = tuple((drawn | required).values())
        if len(found) < count and path not in found and problem.feasible(path):
            found[path] = None
    return [Candidate.of(problem, path) for path in found]
