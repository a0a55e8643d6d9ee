"""Stage `contributions`: the channels of one network that each of its classes needs (MDA)."""

from pathlib import Path

import numpy as np
import pandas

from lib import artifacts, data
from lib import zoo as networks
from lib.mda import classes, contribution
from lib.mda.masks import masks, overall, shares, table
from lib.mda.walk import walk
from lib.params.base import read
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.progress import track
from stages import prepare, run


def main(dataset: Path, zoo: Path, model: str, out: Path, metrics: Path) -> None:
    """Writes the component masks of network `model` and their sparsity table to `out`, kept shares to `metrics`."""
    params = read("contributions", Contributions)
    device = prepare(read("run", Run))
    images = data.load(dataset)
    network, card = networks.load(zoo)
    layers = walk(network, model, card.input.shape)
    network.to(device)
    numbers = classes.numbers(card.classes, images.images.classes, model)
    train = data.of_classes(images.images, images.train, numbers)

    def loader(index: np.ndarray) -> data.Loader:
        return data.Loader(images.images, index, card.input.transform(), params.batch_size, numbers)

    selected = contribution.select(network, loader(train), params.images_per_class, card.classes, model)
    chosen = (loader(train[positions.numpy()]) for positions in track(selected, model))
    thresholds = {"conv": params.conv, "linear": params.linear}
    found = masks(network, layers, chosen, card.classes, thresholds, model)
    artifacts.write_tensors(out / "masks.safetensors", found)
    artifacts.write_csv(out / "kept.csv", pandas.DataFrame(table(found, card.classes)))
    artifacts.write_json(metrics, {"kept": shares(found), "overall": overall(found)})


if __name__ == "__main__":
    run(main)
