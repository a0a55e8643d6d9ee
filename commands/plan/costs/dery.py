"""Needs of DeRy's stages up to the edges: activations, similarity, partition, edges, bricks."""

from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise

from commands.plan.facts import Facts
from commands.plan.machine import Work
from commands.plan.need import Need, forward, opened, regression, running, size
from commands.plan.networks import Network, Part
from lib.dery.similarity import hsic

BUFFER = 2**23  # bytes of activations that wait to be written
FRONTS, PAIRS = 2**32, 2**30  # bytes that edges keep of fronts, and of what was fitted
PROVED = 5e-7  # starts of a process that an entry of the partition's integer program is worth


def activations(facts: Facts, name: str) -> Need:
    """One forward pass of the n probe images; n times channels times cells of every node are written."""
    network, n = facts.networks[name], facts.probe
    bytes_each = {"float32": 4, "bfloat16": 2}[facts.activations.dtype]
    kept = n * bytes_each * sum(_widths(facts, network))
    work = forward(network.parts, n, facts.activations.batch_size) + opened(network)
    work += Work(decoded=n, written=2 * kept, begun=1)
    memory = facts.kept(n, network.size) + running(network, facts.activations.batch_size) + BUFFER
    return Need(f"{n:,} images, {len(network.nodes)} nodes", work, memory, kept)


def _widths(facts: Facts, network: Network) -> list[int]:
    """Columns of the activations of each node."""
    return [node.channels * min(facts.activations.grid**2, node.positions) for node in network.nodes]


def similarity(facts: Facts, _: str) -> Need:
    """Products of the activations of all pairs of nodes over n images: by kernel matrices, n^2 a pair, or by
    covariances, n d d' a pair, as the stage chooses itself.
    """
    n, widths = facts.probe, {name: _widths(facts, network) for name, network in facts.networks.items()}
    nodes, columns, index = sum(map(len, widths.values())), sum(map(sum, widths.values())), facts.similarity.index
    products = 0.0
    for a, b in combinations_with_replacement(widths.values(), 2):
        by_gram = n * (n + min(n, 256)) / 4 * (2 * len(a) * len(b) + 200 * (len(a) + len(b)) + (sum(a) + sum(b)) / 4)
        by_covariance = sum(a) * sum(b) * (n + 110)
        if index == "cka_rbf":
            products += by_gram
        elif index in ("cka", "cka_debiased"):
            products += by_gram if hsic.prefers_gram(n, a, b) else by_covariance
        else:
            products += by_covariance * (10 if index == "svcca" or index == "cca" else 1)
    if index in ("lr", "cca", "svcca"):
        products += sum(12 * n * min(n, d) * d for own in widths.values() for d in own)  # of singular values
    work = Work(products=products, written=4 * n * columns, begun=1)
    return Need(f"{nodes} nodes, {n:,} images", work, min(facts.room, 8 * n * columns), 60 * nodes**2)


def partition(facts: Facts, _: str) -> Need:
    """Ascents over all pairs of boundaries, and the integer program that proves the optimum."""
    nodes, sets = sum(len(network.nodes) for network in facts.networks.values()), facts.partition.num_blocks
    proved = facts.partition.bound == "exact" or facts.partition.solver == "milp"
    work = Work(begun=1, started=nodes**2 * sets * PROVED * (10 if proved else 1))
    return Need(f"{nodes} nodes, K = {sets}", work, 100 * nodes**2 * sets, 400 * len(facts.networks) * sets)


def edges(facts: Facts, name: str) -> Need:
    """For each other network and boundary: what crosses both cuts, read back from disk, normal equations of the stitch
    (at most edges.rows rows), and the back of the network behind it, for the divergence, on edges.kl_images; of several
    batches before that once more, where statistics of BatchNorm become those of what arrives. What crosses a network's
    cuts is computed once for all; each network's own counts here. All networks are opened.
    """
    target, n, batch = facts.networks[name], facts.fit, facts.edges.batch_size
    others = [network for other, network in facts.networks.items() if other != name]
    work = forward(target.parts, n, batch) + Work(decoded=n, begun=1, written=_front(facts, target))
    work += sum(map(opened, facts.networks.values()), Work())
    stitches, widest = 0, 0
    for source in others:
        front, own = _front(facts, source), _front(facts, target)
        work += Work(written=front + own)
        for before, after in _ends(facts, source, target):
            rows = n * min(after.positions, max(1, facts.edges.rows // n))
            for inputs in _inputs(facts, before, after):
                work += regression(rows, inputs, after.channels)
                stitches += 8 * inputs * after.channels
                widest = max(widest, inputs)
            behind = target.parts[target.nodes.index(after) + 1 :]
            several = target.normed and facts.judged > batch  # then the first pass is for the statistics alone
            work += (2 if several else 1) * forward(behind, facts.judged, batch)
            work += Work(written=(front + own) * (2 if several else 1) * facts.judged / n)
    memory = running(target, batch) + 4 * sum(network.params for network in others[:8])
    memory += facts.kept(n, target.size) + 40 * widest**2 + 4 * batch * _front(facts, target) / max(1, n)
    fronts = sum(_front(facts, network) for network in facts.networks.values())
    about = f"{len(others)} networks, {n:,} images"
    scratch = (min(FRONTS, fronts) + min(PAIRS, len(others) * stitches)) / len(facts.networks)
    return Need(about, work, memory, stitches, scratch)


def _ends(facts: Facts, source: Network, target: Network) -> Iterator[tuple[Part, Part]]:
    """The nodes that every stitch from one network to another stands behind, in either."""
    window, sets = facts.edges.window, facts.partition.num_blocks
    for k in range(1, sets):
        for other in range(max(1, k - window), min(sets - 1, k + window) + 1):
            yield (
                source.nodes[facts.cuts[source.name][k] - 1],
                target.nodes[facts.cuts[target.name][other] - 1],
            )


def _inputs(facts: Facts, before: Part, after: Part) -> list[int]:
    """Columns of the regressions of one stitch: pooled, and where the grid is halved of 2 x 2 patches."""
    halved = before.positions >= 4 * after.positions
    forms = {"pool": [1], "patch": [4 if halved else 1], "auto": [1, 4] if halved else [1]}[facts.edges.down]
    return [before.channels * form for form in forms]


def _front(facts: Facts, network: Network) -> int:
    """Bytes of what crosses the inner cuts of a network, on all images of the fit."""
    inner = facts.cuts[network.name][1:-1]
    return facts.fit * (sum(network.nodes[cut - 1].leaving for cut in inner) + network.head.leaving)


def bricks(facts: Facts, name: str) -> Need:
    """A width: channels of the network told apart, and each of its layers fitted once; each form is run in its
    network, back included, twice.
    """
    network, n, wanted = facts.networks[name], facts.fit, facts.bricks
    if not (wanted.models is None or name in wanted.models) or not (wanted.narrow or wanted.skip):
        return Need("whole blocks only", Work(begun=1))
    work = Work(begun=1, decoded=n, written=_front(facts, network)) + opened(network)
    kept = 0.0
    for width in wanted.narrow:
        work += 6 * forward(network.parts, n) + width * refitted(facts, network, 0, n)
        kept += 4 * width * network.params
    sets = len(wanted.narrow)
    for start, stop in pairwise(facts.cuts[name]):
        behind = network.parts[start:]
        work += 2 * sets * forward(behind, n) + Work(written=2 * sets * _front(facts, network))
        for i in range(max(1, start), stop if wanted.skip and stop < len(network.nodes) else start):
            before, after = network.nodes[i - 1], network.nodes[i]
            rows = n * min(after.positions, max(1, facts.edges.rows // n))
            work += regression(rows, before.channels, after.channels) + 3 * forward(network.parts[start:], n)
            kept += 8 * before.channels * after.channels
    memory = running(network, 64) + 12 * size(network.parts) + facts.kept(n, network.size)
    forms = f"{len(wanted.narrow)} widths" + (", nodes left out" if wanted.skip else "")
    return Need(f"{n:,} images, {forms}", work, memory, kept, _front(facts, network))


def refitted(facts: Facts, network: Network, start: int, images: int) -> Work:
    """Nodes behind `start`, refitted node by node: its source runs once, each layer runs its node up to itself, and is
    a ridge regression of at most edges.rows rows.
    """
    work = Work()
    for node in network.nodes[start:]:
        work += (2 + 0.5 * len(node.layers)) * forward([node], images)
        for layer in node.layers:
            if layer.groups == 1:
                rows = images * min(layer.positions, max(1, facts.edges.rows // images))
                work += regression(rows, layer.inputs, layer.outputs)
    return work
