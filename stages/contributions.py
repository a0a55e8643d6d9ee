"""Stage `contributions`: the channels of one network that each of its classes needs (MDA)."""

from pathlib import Path

import pandas
import torch

from lib.base import artifacts
from lib.channels.coupling import couple, keeping
from lib.images import data
from lib.mda import classes
from lib.mda.contributions import contribution, scores
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
    coupling = couple(graph.trace(network, model, card.input.shape), model)
    coupling = keeping(coupling, kept, dict(network.named_modules()), model)
    network.to(device)
    numbers = classes.numbers(card.classes, images.classes, model)
    train = data.of_classes(images.images, images.train, numbers)
    loader = data.Loader(images.images, train, card.input.transform(), params.batch_size, numbers)
    positions = contribution.select(network, loader, params.images_per_class, card.classes, model)
    selected = [train[chosen.numpy()] for chosen in positions]
    batches = {
        output: data.Loader(images.images, chosen, card.input.transform(), params.batch_size, numbers)
        for output, chosen in enumerate(selected)
    }
    evidence = scores.gather(network, coupling, batches, params, run_params.seed)
    found = masks(evidence, card.classes, params.thresholds, model)
    artifacts.write_tensors(out / "masks.safetensors", found)
    artifacts.write_tensors(
        out / "selected.safetensors",
        {name: torch.from_numpy(chosen) for name, chosen in zip(card.classes, selected, strict=True)},
    )
    artifacts.write_csv(out / "kept.csv", pandas.DataFrame(table(found, card.classes)))
    artifacts.write_metrics(metrics, {"kept": shares(found), "overall": overall(found)})


if __name__ == "__main__":
    run(main)
