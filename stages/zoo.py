"""Stage `zoo`: one trained network, its weights and its card."""

from pathlib import Path

import numpy as np

from lib import artifacts, cost, data, resume, training, zoo
from lib.params.base import read
from lib.params.run import Run
from lib.params.training import Training
from lib.params.zoo import ZooModel
from stages import SCRATCH, prepare, run


def main(dataset: Path, model: str, out: Path, metrics: Path, curve: Path) -> None:
    """Makes or opens the network of entry `model`, measures it, writes it to `out`."""
    run_params, entry = read("run", Run), read(f"zoo.models.{model}", ZooModel)
    settings = entry.override(read("zoo.training", Training))
    device = prepare(run_params)
    split = data.load(dataset)
    classes = None if entry.classes == "own" else data.parse_classes(entry.classes, split.images.classes)
    network, architecture, expected = zoo.create(model, entry, None if classes is None else len(classes))
    network.to(device)
    rows, scores = [], None
    if classes is not None:

        def loader(index: np.ndarray) -> data.Loader:
            chosen = data.of_classes(split.images, index, classes)
            return data.Loader(split.images, chosen, expected.transform(), settings.batch_size, classes)

        validation = loader(split.validation)
        if entry.weights == "train":
            with resume.scratch(SCRATCH / "zoo" / model) as scratch:
                rows = training.fit(
                    network,
                    loader(split.train),
                    settings,
                    run_params.seed,
                    validate=lambda result: training.accuracy(result, validation),
                    scratch=scratch,
                    what=model,
                )
        scores = {
            "validation": training.accuracy(network, validation),
            "test": training.accuracy(network, loader(split.test)),
        }
    network.cpu()
    card = zoo.Card(
        name=model,
        architecture=architecture,
        input=expected,
        classes=tuple(split.images.classes[c] for c in classes) if classes else zoo.own_classes(network, expected),
        nodes=tuple(entry.nodes),
        weights=zoo.origin(entry, network),
        licence=entry.licence,
        cost=cost.count(network, expected.shape),
        accuracy=scores,
    )
    zoo.save(out, network, card)
    artifacts.write_json(metrics, {"params": card.cost.params, "macs": card.cost.macs, "accuracy": card.accuracy})
    artifacts.write_json(curve, [{"network": model, **row} for row in rows])


if __name__ == "__main__":
    run(main)
