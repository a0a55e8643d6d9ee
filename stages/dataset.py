"""Stage `dataset`: divides the images into train, validation and test, and draws the probe set."""

from pathlib import Path

from lib.base import artifacts
from lib.images import agreement, data, sources
from lib.params.base import load, read
from lib.params.dataset import Dataset
from lib.params.run import Run
from stages import SCRATCH, run


def main(out: Path, metrics: Path) -> None:
    """Writes splits and card to `out`, counts to `metrics`; before that, all of params.yaml has been checked."""
    params = read("dataset", Dataset)
    images = sources.open_images(params, SCRATCH)
    for note in images.notes:
        print(f"dataset: {note}")
    split = data.split(images, params, read("run", Run).seed)
    agreement.check(load().sections, split)
    data.save(out, split, params)
    counts = {name: len(getattr(split, name)) for name in ("train", "validation", "test", "probe")}
    artifacts.write_metrics(metrics, {"images": counts, "classes": len(split.classes)})


if __name__ == "__main__":
    run(main)
