"""Tuning of many networks, each kept by what it started from and how it was tuned."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path as FilePath

import numpy as np
import torch

from benchmarks.cifar10.study import Study
from benchmarks.cifar10.tree import Network, content
from lib.base.progress import track
from lib.base.resume import scratch
from lib.dery import tuning
from lib.dery.paths.problem import Path
from lib.images.data import Loader, stratified_sample
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.training import Training
from lib.training import fit

START = "layers"  # setting of the stitches with which tuning begins: the best on validation images
IMAGES = {"frozen": 5_000, "full": 15_000}  # train images of a protocol, a stratified sample
SCRATCH = FilePath(".scratch/tuning")
Step = tuple[str, Training]


def protocols() -> dict[str, Training]:
    """`frozen` (stitches and head learn) and `full` (everything)."""
    params = read("finetune", Finetune)
    return {"frozen": params.frozen, "full": params.full}


def tuned(study: Study, networks: Mapping[Path, Network], names: Sequence[str]) -> dict[Path, np.ndarray]:
    """Whether each network, tuned by the protocols `names` one after another, is right on each test image; the
    networks given stay what they are.
    """
    steps = [(name, protocols()[name]) for name in names]
    return {path: _kept(study, network, steps) for path, network in track(list(networks.items()), " + ".join(names))}


def from_scratch(study: Study, networks: Mapping[Path, Network]) -> dict[Path, np.ndarray]:
    """The same architectures with random weights; everything learns, for the epochs of frozen and full together."""
    steps = [("full", tuning.from_scratch(protocols()))]
    return {
        path: _kept(study, (tuning.untrained(recipe, study.seed), recipe), steps)
        for path, (_, recipe) in track(list(networks.items()), "from scratch")
    }


def _kept(study: Study, network: Network, steps: Sequence[Step]) -> np.ndarray:
    """bool [test images], under the hash of what it started from and of all settings."""
    settings = [[name, IMAGES[name], own.model_dump()] for name, own in steps]
    started = [content(*network), study.seed, study.data.images.checksum, torch.get_num_threads(), fit.code_digest()]
    key = hashlib.sha256(json.dumps([started, settings]).encode()).hexdigest()
    if not study.on_test.has(key):
        with scratch(SCRATCH / key[:16]) as folder:
            study.on_test.keep(key, _right(study, network, steps, folder))
    return study.on_test.kept(key)


def _right(study: Study, network: Network, steps: Sequence[Step], folder: FilePath) -> np.ndarray:
    model, recipe = deepcopy(network[0]).to(memory_format=torch.channels_last), network[1]
    images, transform = study.data.images, recipe.input.transform()
    for name, settings in steps:
        index = stratified_sample(images, study.data.train, IMAGES[name], study.seed)
        fit.fit(
            model,
            Loader(images, index, transform, settings.batch_size),
            settings,
            study.seed,
            parameters=model.new_parameters() if name == "frozen" else None,
            scratch=folder,
            what=f"{name} tuning",
        )
    with torch.inference_mode():
        return np.concatenate([(model(x).argmax(1) == y).numpy() for x, y in study.on_test.loader(recipe.input)])
