"""Activations of a network at the boundaries of its chain (DeRy, section 3.2)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from lib import artifacts
from lib.chain import Chain
from lib.data import Batch
from lib.errors import BrickyardError


@torch.no_grad()
def pooled(chain: Chain, batches: Iterable[Batch]) -> list[torch.Tensor]:
    """The output of each node of `chain`, averaged over the grid: L tensors [n, channels], rows in the batches' order.

    One forward pass; memory grows with n times the channels alone. Raises BrickyardError naming network and node when
    an activation is not finite.
    """
    rows: list[list[torch.Tensor]] = [[] for _ in chain.nodes]
    for x, _ in batches:
        for kept, node, output in zip(rows, chain.nodes, chain.walk(x), strict=True):
            kept.append(node.output.pool(output))
    matrices = [torch.cat(kept) for kept in rows]
    for node, matrix in zip(chain.nodes, matrices, strict=True):
        if not torch.isfinite(matrix).all():
            raise BrickyardError(f"{chain.name}: activations of node {node.name} are not finite")
    return matrices


def save(folder: Path, chain: Chain, matrices: list[torch.Tensor], images: np.ndarray) -> None:
    """Writes chain.json and activations.safetensors: [n, channels] a node, and the ids of the n images in order."""
    tensors = {f"{i:04d}": matrix for i, matrix in enumerate(matrices)}
    artifacts.write_json(folder / "chain.json", chain.to_dict())
    artifacts.write_tensors(folder / "activations.safetensors", {**tensors, "images": torch.from_numpy(images)})


def load(folder: Path, names: Iterable[str]) -> tuple[list[tuple[str, str]], list[torch.Tensor]]:
    """(network, node) labels and activation matrices of several networks, one after another.

    Raises BrickyardError when two networks saw different images.
    """
    labels: list[tuple[str, str]] = []
    matrices: list[torch.Tensor] = []
    expected: torch.Tensor | None = None
    for name in names:
        nodes = artifacts.read_json(folder / name / "chain.json")["nodes"]
        tensors = artifacts.read_tensors(folder / name / "activations.safetensors")
        images = tensors.pop("images")
        if expected is not None and not torch.equal(images, expected):
            raise BrickyardError(
                f"activations of {name} belong to other images than those of {labels[0][0]}; dvc repro"
            )
        expected = images
        labels += [(name, node["name"]) for node in nodes]
        matrices += [tensors[key] for key in sorted(tensors)]
    return labels, matrices
