"""Bounds on what the rest of a path can still score, and must still cost."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .problem import AssemblyProblem, Kind, Table

STEPS = 60  # of the descent on the Lagrange multipliers


@dataclass(frozen=True)
class Relaxation:
    """The problem with its additive limits moved into the objective, each with a multiplier >= 0 (score per unit).

    rest: [K, N], the most that the blocks and stitches behind block k of network m can add to score - multipliers *
    cost, -inf where nothing can follow; value: an upper bound on the score of every feasible path.
    """

    multipliers: Float64[np.ndarray, " R"]
    rest: Float64[np.ndarray, "K N"]
    value: float


def relax(problem: AssemblyProblem, multipliers: Float64[np.ndarray, " R"]) -> Relaxation:
    """The relaxation with given multipliers, one for each of `problem.additive`."""
    blocks, stitches = _weights(problem, multipliers)
    rest = suffix(blocks, stitches)
    limits = np.array([problem.limits[kind] for kind in problem.additive])
    return Relaxation(multipliers, rest, float((blocks[0] + rest[0]).max()) + float(multipliers @ limits))


def tightest(problem: AssemblyProblem) -> Relaxation:
    """The relaxation with nearly the least value (the Lagrangian dual), by subgradient descent on its multipliers.

    Any multipliers >= 0 give a valid bound; better ones only make the search shorter.
    """
    best = relax(problem, np.zeros(len(problem.additive)))
    if not problem.additive or not np.isfinite(best.value):
        return best
    limits = np.array([problem.limits[kind] for kind in problem.additive])
    blocks = problem.scores.blocks[problem.open_blocks]
    step = max(float(np.ptp(blocks)), float(np.ptp(problem.scores.stitches)), 1e-9)
    current = best
    for _ in range(STEPS):
        path = _path(problem, current)
        slack = 1 - np.array([problem.cost(path, kind) for kind in problem.additive]) / limits
        if (slack >= 0).all() and not (current.multipliers @ slack):
            break  # the relaxation's own optimum is feasible and as good as its bound
        direction = slack / max(float(np.linalg.norm(slack)), 1e-12)
        current = relax(problem, np.maximum(current.multipliers * limits - step * direction, 0) / limits)
        step *= 0.88
        if current.value < best.value:
            best = current
    return best


def least(problem: AssemblyProblem, kind: Kind) -> Float64[np.ndarray, "K N"]:
    """[K, N]: the least that what follows block k of network m costs, inf where nothing can follow."""
    table = problem.costs[kind]
    return -suffix(*_closed(problem, Table(-table.blocks, -table.stitches)))


def suffix(blocks: Float64[np.ndarray, "K N"], stitches: Float64[np.ndarray, "K-1 N N"]) -> Float64[np.ndarray, "K N"]:
    """[K, N]: the largest sum that can follow each block."""
    rest = np.zeros_like(blocks)
    for k in range(len(blocks) - 2, -1, -1):
        rest[k] = (stitches[k] + blocks[k + 1] + rest[k + 1]).max(1)
    return rest


def _weights(problem: AssemblyProblem, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks, stitches = _closed(problem, problem.scores)
    for kind, multiplier in zip(problem.additive, multipliers, strict=True):
        if multiplier:
            blocks = blocks - multiplier * problem.costs[kind].blocks
            stitches = stitches - multiplier * problem.costs[kind].stitches
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
