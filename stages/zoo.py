"""Stage `zoo`: one trained network, its weights and its card."""

from pathlib import Path

from lib import artifacts, cost, data, training, zoo
from lib.params.base import read
from lib.params.run import Run
from lib.params.training import Training
from lib.params.zoo import ZooModel
from stages import prepare, run


def main(dataset: Path, model: str, out: Path, metrics: Path, curve: Path) -> None:
    """Makes or opens the network of entry `model`, measures it, writes it to `out`."""
    run_params, entry = read("run", Run), read(f"zoo.models.{model}", ZooModel)
    settings = Training.model_validate({**read("zoo.training", Training).model_dump(), **entry.training})
    device = prepare(run_params)
    images = data.load(dataset)
    own = entry.classes == "own"
    classes = [] if own else data.parse_classes(entry.classes, images.images.classes)
    network, architecture, expected = zoo.create(model, entry, None if own else len(classes))

    def loader(index):  # type: ignore[no-untyped-def]
        chosen = data.of_classes(images.images, index, classes)
        return data.Loader(images.images, chosen, expected.transform(), settings.batch_size, classes)

    train, validation, test = loader(images.train), loader(images.validation), loader(images.test)
    network.to(device)
    rows = []
    if entry.weights == "train":
        rows = training.fit(
            network, train, settings, run_params.seed, validate=lambda: training.accuracy(network, validation), what=model
        )
    names = tuple(images.images.classes[c] for c in classes)
    scores = {
        "validation": training.accuracy(network, validation),
        "test": training.accuracy(network, test),
    }
    network.cpu()
    card = zoo.Card(
        name=model,
        architecture=architecture,
        input=expected,
        classes=names,
        weights=entry.weights,
        licence=entry.licence,
        cost=cost.count(network, expected.shape),
        accuracy=scores,
    )
    zoo.save(out, network, card)
    artifacts.write_json(metrics, {"params": card.cost.params, "macs": card.cost.macs, "accuracy": card.accuracy})
    artifacts.write_json(curve, rows)


if __name__ == "__main__":
    run(main)
