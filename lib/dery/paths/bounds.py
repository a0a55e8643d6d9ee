"""Bounds on what the rest of a path can still score, and must still cost."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .problem import AssemblyProblem
from .tables import Table

STEPS = 60  # of the descent on the Lagrange multipliers


@dataclass(frozen=True)
class Relaxation:
    """The problem with its ceilings moved into the objective, each with a multiplier >= 0 (score per unit).

    rest: [K, N], the most that the blocks and stitches behind block k of network m can add to score - multipliers *
    cost, -inf where nothing can follow; value: an upper bound on the score of every feasible path.
    """

    multipliers: Float64[np.ndarray, " R"]
    rest: Float64[np.ndarray, "K N"]
    value: float


def relax(problem: AssemblyProblem, multipliers: Float64[np.ndarray, " R"]) -> Relaxation:
    """The relaxation with given multipliers, one for each of `problem.ceilings`."""
    blocks, stitches = _weights(problem, multipliers)
    rest = suffix(blocks, stitches)
    limits = np.array([one.most for one in problem.ceilings])
    return Relaxation(multipliers, rest, float((blocks[0] + rest[0]).max()) + float(multipliers @ limits))


def tightest(problem: AssemblyProblem) -> Relaxation:
    """The relaxation with nearly the least value (the Lagrangian dual), by subgradient descent on its multipliers.

    Any multipliers >= 0 give a valid bound; better ones only make the search shorter.
    """
    ceilings = problem.ceilings
    best = relax(problem, np.zeros(len(ceilings)))
    if not ceilings or not np.isfinite(best.value):
        return best
    limits = np.array([one.most for one in ceilings])
    scale = np.abs(limits)
    blocks = problem.scores.blocks[problem.open_blocks]
    step = max(float(np.ptp(blocks)), float(np.ptp(problem.scores.stitches)), 1e-9)
    current = best
    for _ in range(STEPS):
        path = _path(problem, current)
        slack = np.sign(limits) * (1 - np.array([sum(one.table.parts(path)) for one in ceilings]) / limits)
        if (slack >= 0).all() and not (current.multipliers @ slack):
            break  # the relaxation's own optimum is feasible and as good as its bound
        direction = slack / max(float(np.linalg.norm(slack)), 1e-12)
        current = relax(problem, np.maximum(current.multipliers * scale - step * direction, 0) / scale)
        step *= 0.88
        if current.value < best.value:
            best = current
    return best


def least(problem: AssemblyProblem, table: Table) -> Float64[np.ndarray, "K N"]:
    """[K, N]: the least that what follows block k of network m adds up to in `table`, inf where nothing can follow."""
    return -suffix(*_closed(problem, Table(-table.blocks, -table.stitches)))


def suffix(blocks: Float64[np.ndarray, "K N"], stitches: Float64[np.ndarray, "K-1 N N"]) -> Float64[np.ndarray, "K N"]:
    """[K, N]: the largest sum that can follow each block."""
    rest = np.zeros_like(blocks)
    for k in range(len(blocks) - 2, -1, -1):
        rest[k] = (stitches[k] + blocks[k + 1] + rest[k + 1]).max(1)
    return rest


def _weights(problem: AssemblyProblem, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks, stitches = _closed(problem, problem.scores)
    for one, multiplier in zip(problem.ceilings, multipliers, strict=True):
        if multiplier:
            blocks = blocks - multiplier * one.table.blocks
            stitches = stitches - multiplier * one.table.stitches
    return blocks, stitches


def _closed(problem: AssemblyProblem, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """With -inf where no path may go."""
    blocks = np.where(problem.open_blocks, table.blocks, -np.inf)
    return blocks, np.where(problem.open_stitches, table.stitches, -np.inf)


def _path(problem: AssemblyProblem, relaxed: Relaxation) -> tuple[int, ...]:
    """The best path of a relaxation."""
    blocks, stitches = _weights(problem, relaxed.multipliers)
    path = [int((blocks[0] + relaxed.rest[0]).argmax())]
    for k in range(1, len(blocks)):
        path.append(int((stitches[k - 1, path[-1]] + blocks[k] + relaxed.rest[k]).argmax()))
    return tuple(path)
