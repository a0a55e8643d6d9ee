"""Stage `activations`: one network as a chain, and its activations on the probe images."""

from pathlib import Path

import torch

from lib.base import artifacts
from lib.base.progress import track
from lib.chain.chain import Chain
from lib.dery import recording
from lib.images import data
from lib.network import files
from lib.params.activations import Activations
from lib.params.base import read
from lib.params.entries import entry
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run

VERIFIED = 8  # images on which a chain is held to its network, several passes each


def main(dataset: Path, zoo: Path, out: Path, metrics: Path) -> None:
    """Cuts the network in `zoo`, writes chain.json and activations.safetensors ([n, channels] a node)."""
    params = read("activations", Activations)
    device = prepare(read("run", Run))
    images = data.load(dataset, SCRATCH, device)
    model, card = files.load_as(Card, zoo, entry(zoo.name))
    probe = data.Loader(images.images, images.probe, card.input.transform(), params.batch_size)
    chain = Chain(card.name, model, card.input.shape, declared=card.nodes).to(device)
    chain.verify(next(iter(probe))[0][:VERIFIED])
    batches = track(probe, f"activations of {card.name}")
    recording.record(out, chain, batches, images.probe, params.grid, getattr(torch, params.dtype))
    artifacts.write_metrics(metrics, {"nodes": len(chain), "images": len(images.probe)})


if __name__ == "__main__":
    run(main)
