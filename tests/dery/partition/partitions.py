"""Small partition problems, their solution by going through all legal cuts and anchors, and partitions to be read."""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, product
from math import inf
from typing import Any

import numpy as np

from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.sets import Cuts, EquivalenceSet, Member, Partition
from lib.network.blocks import Block


def problem(lengths: tuple[int, ...], num_blocks: int, seed: int = 0, epsilon: float = 0.2, **options: Any):
    """Nodes with cosine similarities between random positive vectors, all of size 1 unless `sizes` are given."""
    factors = np.random.default_rng(seed).random((sum(lengths), 4))
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    names = tuple(f"m{i}" for i in range(len(lengths)))
    nodes = tuple(tuple(f"{name}.{i}" for i in range(length)) for name, length in zip(names, lengths, strict=True))
    options = {"sizes": tuple((1,) * length for length in lengths), **options}
    return PartitionProblem(names, nodes, unit @ unit.T, num_blocks=num_blocks, epsilon=epsilon, **options)


def drawn(seed: int, size: Any, start: Any) -> PartitionProblem:
    """A random feasible problem of 2 to 4 networks; odd seeds have an asymmetric similarity with values below 0."""
    generator = np.random.default_rng(seed)
    num_blocks = int(generator.integers(2, 4))
    lengths = tuple(int(n) for n in generator.integers(num_blocks, 7, size=int(generator.integers(2, 7 - num_blocks))))
    sizes = tuple(tuple(int(s) for s in generator.integers(0, 40, size=length)) for length in lengths)
    weights = [(1.0, 1.0), (0.3, 1.7), (1.0, 0.0), (0.0, 2.0)][seed % 4]
    made = problem(lengths, num_blocks, seed, 0, size=size, start=start, weights=weights)
    similarity = generator.uniform(-0.2, 1, made.similarity.shape) if seed % 2 else made.similarity
    for epsilon in (0.0, 0.2, 0.5, 1.0, 3.0):
        made = PartitionProblem(
            made.names,
            made.nodes,
            similarity,
            made.sizes if size == "nodes" else sizes,
            num_blocks,
            epsilon,
            size,
            start,
            weights,
        )
        if all(legal(made, m) for m in range(len(lengths))):
            return made
    raise AssertionError("no legal cuts")


def partitioned(
    cuts: Mapping[str, Sequence[int]], similarities: Mapping[str, Sequence[float]] | None = None
) -> Partition:
    """Networks cut like that, the first one anchoring all sets; similarities: to the anchors, a value a set."""
    sets = []
    for k, _ in enumerate(next(iter(cuts.values()))[1:]):
        members = []
        for name, own in cuts.items():
            similar = 1.0 if similarities is None else similarities[name][k]
            i, j = own[k], own[k + 1]
            members.append(Member(Block(name, i, j), tuple(f"layer.{n}" for n in range(i, j)), j - i, similar))
        sets.append(EquivalenceSet(next(iter(cuts)), tuple(members)))
    return Partition(
        size="nodes",
        weights=(1.0, 1.0),
        objective=12.3456,
        bound=None,
        random=10.9876,
        violations=0,
        status="local optimum; best of 5 starts",
        limits={name: max(j - i for i, j in pairwise(own)) for name, own in cuts.items()},
        sets=tuple(sets),
    )


def legal(made: PartitionProblem, m: int) -> list[Cuts]:
    """All cuts of network m whose blocks have at most (1 + eps) ceil(|M| / K)."""
    sizes, length = made.sizes[m], len(made.sizes[m])
    most = (1 + made.epsilon) * np.ceil(sum(sizes) / made.num_blocks) + 1e-9
    found = [(0, *inner, length) for inner in combinations(range(1, length), made.num_blocks - 1)]
    return [cuts for cuts in found if all(sum(sizes[i:j]) <= most for i, j in zip(cuts[:-1], cuts[1:], strict=True))]


def worth(made: PartitionProblem, cuts: Any, k: int, a: int) -> float:
    """Set k's part of J when network a's block is its anchor, block by block from the similarities of the nodes."""
    at_start, at_end = made.weights
    first = [sum(made.lengths[:m]) for m in range(len(cuts))]
    total = at_start + at_end
    for m, own in enumerate(cuts):
        if m != a:
            (i, j), (p, q) = own[k : k + 2], cuts[a][k : k + 2]
            if made.start == "first_output":
                start = made.similarity[first[m] + i, first[a] + p]
            else:
                start = 1.0 if k == 0 else made.similarity[first[m] + i - 1, first[a] + p - 1]
            total += at_start * start + at_end * made.similarity[first[m] + j - 1, first[a] + q - 1]
    return float(total)


def brute_force(made: PartitionProblem) -> tuple[float, list[tuple[Cuts, ...]]]:
    """The largest J, and the cuts of all partitions that reach it."""
    networks = range(len(made.lengths))
    best, found = -inf, []
    for cuts in product(*(legal(made, m) for m in networks)):
        value = float(sum(max(worth(made, cuts, k, a) for a in networks) for k in range(made.num_blocks)))
        if value > best + 1e-9:
            best, found = value, []
        if value > best - 1e-9:
            found.append(cuts)
    return best, found
