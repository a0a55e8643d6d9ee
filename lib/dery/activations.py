"""Activations at the boundaries of a chain (DeRy, section 3.2), read by mapping the file; `recording` writes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..base import artifacts
from ..base.errors import BrickyardError
from .forms import Chained


@dataclass(frozen=True)
class Activations:
    """The activations of one network.

    nodes: as chain.json has them.
    layers: for each node [n, d], mapped from the file.
    images: ids of the n rows.
    checksum: of the file's content.
    """

    model: str
    nodes: list[dict[str, Any]]
    layers: list[torch.Tensor]
    images: torch.Tensor
    checksum: str


def load(folder: Path, names: Iterable[str]) -> list[Activations]:
    """Several networks' activations, verified and mapped.

    Raises BrickyardError when two networks saw other images or in another order: their rows would not belong together.
    """
    found: list[Activations] = []
    for name in names:
        file = folder / name / "activations.safetensors"
        nodes = artifacts.read_json(folder / name / "chain.json", Chained)["nodes"]
        tensors = artifacts.read_tensors(file)
        checksum = artifacts.stored_checksum(file)
        images = tensors.pop("images")
        if found and not torch.equal(images, found[0].images):
            raise BrickyardError(
                f"activations of {name} belong to other images than those of {found[0].model}; dvc repro"
            )
        if sorted(tensors) != [key(i) for i in range(len(nodes))]:
            raise BrickyardError(f"{file}: {len(tensors)} layers, but {len(nodes)} nodes in chain.json; dvc repro")
        found.append(Activations(name, nodes, [tensors[key] for key in sorted(tensors)], images, checksum))
    return found


def key(node: int) -> str:
    """What the layer of a node, counted from 0, is called in the file."""
    return f"{node:04d}"
