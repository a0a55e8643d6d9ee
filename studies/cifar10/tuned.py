"""Stage `tuned`: the networks of a group that begin with one of its members, tuned frozen and, of ResNets, full."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.base import artifacts, resume
from lib.images import data
from lib.images.data import DataSet, Loader, stratified_sample
from lib.network import files
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.run import Run
from lib.params.training import Training
from lib.training import fit
from stages import SCRATCH, prepare, run
from studies.cifar10.group import Group, key, write_right
from studies.cifar10.params import Study
from studies.cifar10.target import task
from studies.cifar10.tree import BATCH

WHOLE = "resnets"  # the group whose networks learn whole, too


def main(first: str, dataset: Path, cut: Path, untrained: Path, out: Path, metrics: Path) -> None:
    """Writes to `out` whether each network is right on each test image after every protocol, to `metrics` how often.

    first: the network that lends the first block.
    cut: folder of its group.
    untrained: folder of that stage, with the networks from which tuning starts.
    """
    group, protocols = Group.load(cut), read_protocols()
    name = group.name
    wanted = protocols if name == WHOLE else {"frozen": protocols["frozen"]}
    prepare(read("run", Run))
    images, seed = task(name, data.load(dataset, SCRATCH)), read("run", Run).seed
    m, found = group.names.index(first), {protocol: {} for protocol in wanted}
    with resume.scratch(SCRATCH / "tuned" / first) as scratch:
        for path in (path for path in [*group.sources, *group.measured] if path[0] == m):
            start, recipe = files.load_as(
                Reassembled, untrained / f"{name}-layers" / "networks" / key(path), trust=True
            )
            for protocol, right in tuned(start, recipe, images, wanted, seed, scratch):
                found[protocol][path] = right
        write_right(out, found)
    share = {p: {key(path): 100 * float(own.mean()) for path, own in paths.items()} for p, paths in found.items()}
    artifacts.write_metrics(metrics, share)


def read_protocols() -> dict[str, tuple[Training, int]]:
    """`frozen` (stitches and head learn) and `full` (everything): settings, and on how many train images."""
    params, study = read("finetune", Finetune), read("study", Study)
    return {"frozen": (params.frozen, study.frozen_images), "full": (params.full, study.full_images)}


def tuned(
    model: nn.Module,
    recipe: Reassembled,
    images: DataSet,
    protocols: Mapping[str, tuple[Training, int]],
    seed: int,
    scratch: Path,
) -> Iterator[tuple[str, np.ndarray]]:
    """Tunes a copy of `model` by one protocol after another; after each, whether it is right on each test image.

    protocols: settings, and on how many train images.
    scratch: for states of a training that is killed.
    """
    transform = recipe.input.transform()
    model = deepcopy(model).to(memory_format=torch.channels_last)
    assert isinstance(model, ReassembledNetwork)
    for protocol, (settings, count) in protocols.items():
        index = stratified_sample(images.images, images.train, count, seed)
        fit.fit(
            model,
            Loader(images.images, index, transform, settings.batch_size),
            settings,
            seed,
            parameters=model.new_parameters() if protocol == "frozen" else None,
            scratch=scratch,
            what=f"{protocol} tuning",
        )
        yield protocol, right(model, Loader(images.images, images.test, transform, BATCH))


@torch.inference_mode()
def right(model: nn.Module, loader: Loader) -> np.ndarray:
    """Whether a network is right on each image, bool [n]."""
    return np.concatenate([(model(x).argmax(1) == y).numpy() for x, y in loader])


if __name__ == "__main__":
    run(main)
