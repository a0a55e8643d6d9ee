"""Choosing candidates: exact k-best search beside HiGHS, brute force and random search.

python -m benchmarks.assembly [--instance FILE.npz]

Instances are synthetic, from a seeded generator: N networks of 1-100 M parameters and 0.5-16 GMACs, whose blocks grow
towards the classifier; a stitch costs what a 1x1 convolution between their channels does; its score is log R^2, and
R^2 is higher between networks whose latent positions are near. Budgets are 10 M parameters and 3 GMACs, those of the
paper's DeRy(4,10,3); at N = 4, where nothing that small may exist, the medians over all candidates. Two sources at
least.

--instance takes one with K = 4 from a file instead of the N = 28 one, with the arrays that `synthetic` makes. Times are
CPU seconds of this process; those of the search are medians of 7.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from lib.dery.paths import certificate, pareto, search
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.sample import random_candidates
from lib.dery.paths.tables import Kind, Table
from lib.network.blocks import Block, Pick

T = TypeVar("T")
POOL, RANDOM, REPEATS, SEED = 50, 500, 7, 0
LIMITS: dict[Kind, float] = {"params": 10e6, "macs": 3e9}
Arrays = dict[str, np.ndarray]


def main() -> None:
    """Prints the table and, as the last line, the figures of the instance with N = 28 and K = 4 as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assembly", description=str(__doc__).splitlines()[0])
    parser.add_argument("--instance", type=Path, help=".npz to use for N = 28, K = 4")
    arguments = parser.parse_args()
    given = dict(np.load(arguments.instance)) if arguments.instance else synthetic(28, 4, SEED)
    small = [problem(synthetic(4, sets, SEED), {}) for sets in (4, 8)]
    problems = [_halved(one) for one in small] + [problem(given, LIMITS), problem(synthetic(28, 8, SEED), LIMITS)]
    printed = Printed("N", "K", "method", "CPU s", "candidates", "best score", "worst score", "remark")
    results = [measure(one, printed) for one in problems]
    Console(width=140).print(printed)
    large = results[2]
    keys = ("pool_seconds", "pool_equals_brute_force", "milp_seconds", "milp_agrees", "cuts_seconds", "brute_seconds")
    figures = {key: large[key] for key in (*keys, "pareto_seconds", "random_gap")}
    keys = ("pool_seconds", "milp_seconds", "milp_agrees", "cuts_seconds", "pareto_seconds", "random_gap")
    figures |= {f"{key}_k8": results[3][key] for key in keys}
    figures["small_equal_brute_force"] = all(r["pool_equals_brute_force"] for r in results[:2])
    print(json.dumps(figures))


def synthetic(networks: int, sets: int, seed: int) -> Arrays:
    """params, macs [K, N] of blocks; stitch_params, stitch_macs, r2 [K-1, N, N]."""
    generator = np.random.default_rng(seed)
    params = np.exp(generator.uniform(np.log(1e6), np.log(100e6), networks))
    macs = np.exp(generator.uniform(np.log(0.5e9), np.log(16e9), networks))
    growth = 64.0 ** np.linspace(0, 1, sets)[:, None] * generator.uniform(0.5, 1.5, (sets, networks))
    effort = generator.uniform(0.5, 1.5, (sets, networks))
    stage = np.arange(1, sets)[:, None] * 4 / sets
    channels = 8 * np.round(6 * 2.0 ** np.minimum(stage, 3) * (params / 20e6) ** 0.35)
    positions = np.round(56 / 2.0 ** np.minimum(stage, 3)) ** 2
    stitch_params = channels[:, None, :] * (channels[:, :, None] + 1)
    place = generator.normal(size=(networks, 3))
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    noise = generator.normal(size=(sets - 1, networks, networks))
    return {
        "params": np.round(params * growth / growth.sum(0)),
        "macs": np.round(macs * effort / effort.sum(0)),
        "stitch_params": stitch_params,
        "stitch_macs": stitch_params * positions[:, :, None],
        "r2": 1 / (1 + np.exp(0.6 * distance + 0.5 * noise - 1.5)),
    }


def problem(arrays: Arrays, limits: dict[Kind, float]) -> AssemblyProblem:
    """Without a stitch between blocks of the same network, at least two sources."""
    sets, networks = arrays["params"].shape
    apart = 1 - np.eye(networks)
    costs: dict[Kind, Table] = {
        "params": Table(arrays["params"], arrays["stitch_params"] * apart),
        "macs": Table(arrays["macs"], arrays["stitch_macs"] * apart),
    }
    scores = Table(np.zeros((sets, networks)), np.log(np.where(apart > 0, arrays["r2"], 1)))
    blocks = tuple(tuple(Block(f"m{m}", k, k + 1) for m in range(networks)) for k in range(sets))
    return AssemblyProblem(blocks, scores, costs, limits, min_sources=2)


def measure(problem: AssemblyProblem, printed: Printed) -> dict[str, Any]:
    """Every method on one instance, a row of `printed` each."""
    n, k = len(problem.names), problem.sets

    def row(method: str, seconds: float, scores: list[float], remark: str = "") -> None:
        ends = [f"{score:.6f}" for score in (scores[0], scores[-1])] if scores else ["", ""]
        printed.add_row(str(n), str(k), method, f"{seconds:.4f}", str(len(scores)), *ends, remark)

    seconds, pool = timed(lambda: search.best(problem, POOL), REPEATS)
    ours = [c.score for c in pool.candidates]
    row("k-best search", seconds, ours, pool.status)
    found: dict[str, Any] = {"pool_seconds": seconds}

    found["milp_seconds"], proven = timed(lambda: certificate.first(problem))
    found["milp_agrees"] = proven.objective is not None and abs(proven.objective - ours[0]) < 1e-6
    row("HiGHS, first", found["milp_seconds"], [float(proven.objective or 0)], f"bound {proven.bound:.6f}")
    found["cuts_seconds"], cuts = timed(lambda: certificate.pool_by_cuts(problem, POOL))
    theirs = [c.score for c in cuts.candidates]
    same = "the same scores" if np.allclose(theirs, ours, atol=1e-6) else "DIFFERS from the search"
    row(f"HiGHS, pool of {POOL} by no-good cuts", found["cuts_seconds"], theirs, same)
    if n**k <= 1_000_000:
        found["brute_seconds"], exact = timed(lambda: brute_force(problem, POOL))
        picks = [Pick.of(problem.blocks, path) for path in exact]
        found["pool_equals_brute_force"] = picks == [c.pick for c in pool.candidates]
        remark = "the same paths" if found["pool_equals_brute_force"] else "DIFFERS from the search"
        row("brute force", found["brute_seconds"], [problem.score(path) for path in exact], remark)

    taken, drawn = timed(lambda: random_candidates(problem, RANDOM, SEED))
    scores = sorted((candidate.score for candidate in drawn), reverse=True)
    found["random_gap"] = ours[0] - scores[0]
    beaten = sum(score > scores[0] for score in ours)
    row(
        f"random search, {RANDOM} feasible", taken, scores, f"best is {found['random_gap']:.4f} below, {beaten} beat it"
    )
    taken, fronts = timed(lambda: [pareto.frontier(problem, kind) for kind in problem.costs])
    found["pareto_seconds"] = taken
    sizes = " and ".join(str(len(front)) for front in fronts)
    printed.add_row(str(n), str(k), "Pareto, params and MACs", f"{taken:.4f}", "", "", "", f"{sizes} points")
    printed.add_section()
    return found


def brute_force(problem: AssemblyProblem, count: int) -> list[tuple[int, ...]]:
    """The best paths of all, by tables over all of them, equal scores by path."""
    shape = (len(problem.names),) * problem.sets

    def total(table: Table) -> np.ndarray:
        found = np.zeros(shape)
        for k in range(problem.sets):
            found += table.blocks[k].reshape([-1 if axis == k else 1 for axis in range(problem.sets)])
            if k:
                sizes = [len(problem.names) if axis in (k - 1, k) else 1 for axis in range(problem.sets)]
                found += table.stitches[k - 1].reshape(sizes)
        return found

    feasible = np.ones(shape, bool)
    for kind, limit in problem.limits.items():
        feasible &= total(problem.costs[kind]) <= limit
    paths = np.argwhere(feasible)
    paths = paths[(paths != paths[:, :1]).any(1)]  # two sources at least
    scores = total(problem.scores)[tuple(paths.T)]
    order = np.argsort(-scores, kind="stable")[:count]  # argwhere goes by path
    return [tuple(path) for path in paths[order].tolist()]


def timed(work: Callable[[], T], repeats: int = 1) -> tuple[float, T]:
    """Median CPU seconds, and the result."""
    times, results = list[float](), list[T]()
    for _ in range(repeats):
        started = time.process_time()
        results.append(work())
        times.append(time.process_time() - started)
    return statistics.median(times), results[0]


def _halved(problem: AssemblyProblem) -> AssemblyProblem:
    """With the medians over all candidates as limits."""
    paths = list(product(range(len(problem.names)), repeat=problem.sets))
    medians: dict[Kind, float] = {
        kind: float(np.median([problem.cost(path, kind) for path in paths])) for kind in problem.costs
    }
    return replace(problem, limits=medians)


if __name__ == "__main__":
    main()
