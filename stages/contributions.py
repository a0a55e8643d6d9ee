"""Stage `contributions`: the channels of one network that each of its classes needs (MDA)."""

from collections.abc import Sequence
from pathlib import Path

import pandas
import torch
from torch import nn

from lib.base import artifacts
from lib.base.progress import track
from lib.channels.coupling import couple, keeping
from lib.images import data
from lib.mda import classes
from lib.mda.contributions import contribution, scores
from lib.mda.contributions.found import Found
from lib.mda.contributions.masks import masks, overall, shares, table
from lib.network import files
from lib.params.base import read
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.entries import entry
from lib.params.run import Run
from lib.trace import graph
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run


def main(dataset: Path, zoo: Path, model: str, out: Path, metrics: Path) -> None:
    """Writes the component masks of network `model`, their sparsity table and the images they come from to `out`, kept
    shares to `metrics`.
    """
    params, run_params = read("contributions", Contributions), read("run", Run)
    kept = read("components", Components).keep
    device = prepare(run_params)
    images = data.load(dataset, SCRATCH)
    network, card = files.load_as(Card, zoo, entry(model))
    found = find(network, card, images, params, kept, run_params.seed, device)
    artifacts.write_tensors(out / "masks.safetensors", found.masks)
    artifacts.write_tensors(out / "selected.safetensors", found.selected)
    artifacts.write_csv(out / "kept.csv", pandas.DataFrame(table(found.masks, card.classes)))
    artifacts.write_metrics(metrics, {"kept": shares(found.masks), "overall": overall(found.masks)})


def find(
    network: nn.Module,
    card: Card,
    images: data.DataSet,
    params: Contributions,
    kept: Sequence[str],
    seed: int,
    device: torch.device,
) -> Found:
    """The channels that each class needs, and the train images that tell; the network is moved to `device`.

    kept: modules whose channels stay; seed: of random scores.
    """
    name = card.name
    coupling = couple(graph.trace(network, name, card.input.shape, costs=False), name)
    coupling = keeping(coupling, kept, dict(network.named_modules()), name)
    network.to(device)
    numbers = classes.numbers(card.classes, images.classes, name)
    train = data.of_classes(images.images, images.train, numbers)
    loader = data.Loader(images.images, train, card.input.transform(), params.batch_size, numbers)
    wrong, batches = card.weights == "random", track(loader, f"images of {name}")  # it is hardly ever right
    positions = contribution.select(network, batches, params.images_per_class, card.classes, name, wrong)
    selected = [train[chosen.numpy()] for chosen in positions]
    batches = {
        output: data.Loader(images.images, chosen, card.input.transform(), params.batch_size, numbers)
        for output, chosen in enumerate(selected)
    }
    evidence = scores.gather(network, coupling, batches, params, seed, name)
    told = {label: torch.from_numpy(chosen) for label, chosen in zip(card.classes, selected, strict=True)}
    return Found(masks(evidence, card.classes, params.thresholds, name), told)


if __name__ == "__main__":
    run(main)
