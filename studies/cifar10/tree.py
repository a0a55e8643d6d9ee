"""Many reassembled networks on the same images at once, as quickly as the published ones allow."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from lib.base.memo import Memo
from lib.dery.assembly import edges
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks, open_bricks
from lib.dery.assembly.reassembly import Made, Prefix, _leaving, begin, extend, finish
from lib.dery.paths.tables import Columns
from lib.images.data import Batch, DataSet, Loader
from lib.network.blocks import Block
from lib.params.assembly import Assembly, Treatment
from lib.params.edges import Edges
from lib.zoo.card import Input

BATCH = 50  # images
FRONTS = 2**32  # bytes on disk, of what crosses the cuts


class ChannelsLast(Loader):
    """The same images in the memory format in which convolutions are quickest."""

    def __iter__(self) -> Iterator[Batch]:
        return ((x.contiguous(memory_format=torch.channels_last), y) for x, y in super().__iter__())


def opened(
    zoo: Path,
    names: Sequence[str],
    cuts: Sequence[Sequence[int]],
    images: DataSet,
    joining: Edges,
    params: Assembly,
    seed: int,
) -> Bricks:
    """Networks in blocks, with images to join them on.

    zoo: folder of the networks.
    names: which, in order.
    cuts: of each, K+1 positions.
    images: of the task, among them those on which stitches are fitted.
    joining: how stitches come about.
    params: of closed-form heads, and how what is refitted is pulled.
    seed: of random stitches, and of what is drawn.
    """
    positions = {name: tuple(own) for name, own in zip(names, cuts, strict=True)}
    found = open_bricks(zoo, names, positions, images, joining, seed, params, trust=True)
    quick = {id(own): ChannelsLast(own.images, own.index, own.transform, own.batch_size) for own in found.fit}
    fit = tuple(quick[id(own)] for own in found.fit)
    return replace(found, fit=fit)


def joined(bricks: Bricks) -> Bricks:
    """With all stitches between two of the networks, each fitted to their own activations."""
    with tempfile.TemporaryDirectory() as folder:
        fronts = Fronts(bricks, Memo(Path(folder), FRONTS))
        found = [edge for card in bricks.cards for edge in edges.fit(bricks, card.name, fronts, Memo())]
    return replace(bricks, edges={edge.joint: edge for edge in found})


def _threads() -> ThreadPoolExecutor:
    """One a core, each of which computes with as many threads as this one, so that they change no bits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))


def reassembled(bricks: Bricks, paths: Sequence[Columns], treatment: Treatment) -> dict[Columns, Made]:
    """Every path put together as `lib.dery.assembly.reassembly.reassemble` does, each beginning fitted once; paths
    that begin with different networks by different threads.
    """
    groups: dict[int, list[Columns]] = {}
    for path in paths:
        groups.setdefault(path[0], []).append(path)
    for m in {m for path in paths for m in path}:  # opened, traced and decoded before there are several workers
        deepcopy(bricks.chains[m][0 : bricks.cuts[m][1]])
        next(iter(bricks.fit[m]))
    with _threads() as pool:
        made = pool.map(partial(_group, bricks, treatment), groups.values())
        found = {path: network for group in made for path, network in group}
    return {path: found[path] for path in paths}


def _group(bricks: Bricks, treatment: Treatment, paths: Sequence[Columns]) -> list[tuple[Columns, Made]]:
    prefixes: dict[tuple[Block, ...], Prefix] = {}
    replays: dict[tuple[Block, ...], Prefix] = {}
    found = []
    for path in paths:
        runs = bricks.pick(path).runs()
        prefixes.setdefault(runs[:1], begin(bricks, runs[0]))
        for length in range(1, len(runs)):
            before, after = runs[:length], runs[: length + 1]
            if before not in replays:
                replays[before] = _replayed(bricks, prefixes[before])
            if after not in prefixes:
                extended = extend(bricks, replays[before], runs[length], treatment)
                parts = (*prefixes[before].parts, *extended.parts[-2:])
                prefixes[after] = replace(extended, parts=parts)
        found.append((path, finish(bricks, prefixes[runs], treatment)))
    return found


class Replay(nn.Module):
    """Stands for a prefix in passes over the images of the fit: gives what left it, batch by batch, again."""

    def __init__(self, batches: Sequence[torch.Tensor]):
        super().__init__()
        self.batches, self.next = batches, 0

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The next batch; after the last one the first."""
        self.next += 1
        return self.batches[(self.next - 1) % len(self.batches)]


@torch.no_grad()
def _replayed(bricks: Bricks, prefix: Prefix) -> Prefix:
    replay = Replay(list(_leaving(bricks, prefix)))
    return replace(prefix, parts=(replay, *(nn.Identity() for _ in prefix.parts[1:])))


def fused(part: nn.Module) -> nn.Module:
    """The same function with BatchNorm folded into the convolutions before; as it is where control flow depends on
    sizes (stitches, LayerNorm blocks), which torch.fx cannot trace by itself.
    """
    try:
        return fuse(part)
    except TraceError:
        return part


def judged(
    bricks: Bricks, networks: Mapping[Columns, Made], data: DataSet, index: np.ndarray
) -> dict[Columns, np.ndarray]:
    """Whether networks are right on each image of `index`, bool [n]; each batch by a thread of its own."""
    paths = {str(path): path for path in networks}
    grove = Grove.of(bricks, {name: networks[path] for name, path in paths.items()}, fused)
    found: dict[Columns, np.ndarray] = {}
    for expected in grove.roots:
        loader = ChannelsLast(data.images, index, expected.transform(), BATCH)
        with _threads() as pool:
            parts = list(pool.map(partial(_right, grove, expected), loader))
        found |= {paths[name]: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {path: found[path] for path in networks}


def _right(grove: Grove, expected: Input, batch: Batch) -> dict[str, np.ndarray]:
    x, y = batch
    return {name: (said.argmax(1) == y).numpy() for name, said in grove.ask(expected, x).items()}
