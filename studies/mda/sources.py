"""Stage `sources`: the images on which a network's contributions are counted, and what it says of those of others."""

from pathlib import Path

import torch

from lib.base import artifacts
from lib.images import data
from lib.mda.contributions import contribution
from lib.params.base import read
from lib.params.run import Run
from stages import prepare, run
from studies.mda.lab import Lab


def main(model: str, dataset: Path, zoo: Path, out: Path) -> None:
    """Writes for each class the most confident correct train images, and logits by split, to the network's folder."""
    prepare(read("run", Run))
    lab = Lab(dataset, zoo, out)
    source, train, count = lab.source(model), lab.images.train, lab.study.select_images
    if count is not None and count < len(train):
        train = data.stratified_sample(lab.images.images, train, count, lab.seed)
    batches, wanted = lab.loader(source.card.input, train), lab.params.images_per_class
    found = contribution.select(source.module, batches, wanted, source.card.classes, model)
    selected = {str(c): torch.from_numpy(train[positions.numpy()]) for c, positions in enumerate(found)}
    artifacts.write_tensors(out / model / "selected.safetensors", selected)
    logits = {split: lab.answers(source.module, source.card.input, split) for split in lab.splits}
    artifacts.write_tensors(out / model / "logits.safetensors", logits)


if __name__ == "__main__":
    run(main)
