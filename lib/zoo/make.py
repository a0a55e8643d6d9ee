"""From an entry of the zoo to a network with a card: built, trained where that is asked for, measured."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..images import data
from ..params.training import Training
from ..params.zoo import ZooModel
from ..trace import cost, graph
from ..training import fit
from . import ask
from .card import Card
from .create import create, origin, own_classes


def make(
    name: str, entry: ZooModel, images: data.DataSet, settings: Training, seed: int, device: torch.device, scratch: Path
) -> tuple[nn.Module, Card, list[dict[str, Any]]]:
    """The network in eval mode on the CPU, its card, and one row an epoch where it was trained here.

    settings: of training, of which the batch size counts in any case; scratch: for states of a training that is killed.
    A network that keeps its own classes is not measured. Random weights depend on `seed` and `name` alone, so that two
    entries of one architecture are two networks. Raises BrickyardError naming the entry.
    """
    key = f"zoo.models.{name}.classes"
    classes = None if entry.classes == "own" else data.parse_classes(entry.classes, images.classes, key)
    with _started(seed, name) if entry.weights == "random" else nullcontext():
        network, architecture, expected = create(name, entry, None if classes is None else len(classes))
    network.to(device)
    if entry.weights == "train":
        network.to(memory_format=graph.quickest(network, name, expected.shape))
    rows: list[dict[str, Any]] = []
    accuracy = None
    if classes is not None:

        def loader(index: np.ndarray) -> data.Loader:
            chosen = data.of_classes(images.images, index, classes)
            return data.Loader(images.images, chosen, expected.transform(), settings.batch_size, classes)

        validation = loader(images.validation)
        if entry.weights == "train":
            rows = fit.fit(
                network,
                loader(images.train),
                settings,
                seed,
                validate=lambda result: fit.accuracy(result, validation),
                scratch=scratch,
                what=f"zoo.models.{name}",
                rate=entry.place(name, "learning_rate"),
            )
        test = ask.of(network, loader(images.test))
        accuracy = {
            "validation": fit.accuracy(network, validation),
            "test": test.accuracy,
            "balanced_test": test.balanced,
        }
    network.cpu().to(memory_format=torch.contiguous_format)
    card = Card(
        name=name,
        architecture=architecture,
        input=expected,
        classes=tuple(images.classes[c] for c in classes) if classes else own_classes(network, expected),
        nodes=tuple(entry.nodes),
        weights=origin(entry, network),
        licence=entry.licence,
        cost=cost.count(network, expected.shape),
        accuracy=accuracy,
    )
    return network, card, rows


@contextmanager
def _started(seed: int, name: str) -> Iterator[None]:
    """Inside, torch's global generator starts from both; afterwards it goes on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]))
        yield
