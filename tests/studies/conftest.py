"""Studies on pico networks and digits: every stage run once, in the order and by the commands of dvc.yaml."""

import importlib
import shlex
import shutil
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from dvc.repo import Repo
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from sklearn.datasets import load_digits

import stages
from data.models.cifar_resnet import cifar_resnet
from lib.base.code import ROOT

TRAIN, TEST = 24, 6  # images a class
PLAIN = {"factory": "data/models/plain_cnn.py:plain_cnn", "weights": "train"}
PUBLISHED = {"factory": "data/models/cifar_resnet.py:cifar_resnet", "kwargs": {"depth": 8}}


def digits(folder: Path, pixels: int) -> None:
    """Writes digits as folders train and test, one folder a class."""
    found: Any = load_digits()
    for label in range(10):
        own = found.images[found.target == label][: TRAIN + TEST]
        for i, image in enumerate(own):
            file = folder / ("train" if i < TRAIN else "test") / str(label) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((image * 15).astype(np.uint8))
            grey.convert("RGB").resize((pixels, pixels), Image.Resampling.NEAREST).save(file)


def project(study: str, folder: Path, params: dict[str, Any]) -> Path:
    """A copy of the study's project below `folder`, with a checkpoint of the published network."""
    own = folder / "studies" / study
    (own / ".dvc").mkdir(parents=True)
    (own / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    shutil.copy(ROOT / "studies" / study / "dvc.yaml", own)
    (own / "versions.yaml").symlink_to(ROOT / "versions.yaml")
    torch.manual_seed(0)
    network = cifar_resnet(num_classes=10, depth=8)
    (folder / "shelf").mkdir()
    save_file(network.state_dict(), folder / "shelf" / "published-abc.safetensors")
    params["study"] |= {"images": str(folder / "images"), "checkpoints": str(folder / "shelf")}
    with (own / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    return own


def run_all(place: Path, target: str) -> list[str]:
    """Runs the stage `target` of the project in `place`, before it what it depends on, and returns their names.

    Each has what it names as deps before it runs, and what it names as outs afterwards.
    """
    names = []
    with chdir(place), pytest.MonkeyPatch.context() as patch:
        graph = Repo(".").index.graph
        (wanted,) = (stage for stage in graph if stage.addressing == target)
        for stage in networkx.dfs_postorder_nodes(graph, wanted):
            made = [Path(dep.def_path) for dep in stage.deps if dep.def_path.startswith(("artifacts/", "metrics/"))]
            assert all(path.exists() for path in made), stage.addressing
            _, _, module, *options = shlex.split(stage.cmd)
            patch.setenv("DVC_STAGE", stage.addressing)
            patch.setattr(sys, "argv", [module, *options])
            stages.run(importlib.import_module(module).main)
            assert all(Path(str(out)).exists() for out in stage.outs), stage.addressing
            names.append(stage.addressing)
    return names


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on networks of a few hundred parameters, as it is before anything has run."""
    folder = tmp_path_factory.mktemp("cifar10")
    digits(folder / "images", 16)
    params = YAML(typ="safe").load(ROOT / "studies" / "cifar10" / "params.yaml")
    shared = {"input_size": 16, "weights": "train", "training": {"epochs": 1}}
    resnet = {"factory": "tests.pico:PicoResNet", **shared}
    vit = {"factory": "tests.pico:PicoViT", **shared}
    plain = {**PLAIN, "kwargs": {"widths": [[6], [8], [8]]}, **shared}
    published = {**PUBLISHED, "weights": "artifacts/inputs/checkpoints/published.safetensors", "input_size": 16}
    models = dict.fromkeys(params["zoo"]["models"], plain)
    models |= {"resnet20": published, "resnet32": resnet, "convnext": resnet, "vit": vit}
    models |= {name: {**plain, "classes": "0-4"} for name in models if name.endswith("half")}
    params["zoo"]["models"] = models
    params["study"] |= {
        "chance_images": 20,
        "rank_images": 30,
        "frozen_images": 20,
        "full_images": 20,
        "random_cuts": [0, 1],
        "random_picks": 2,
        "grafts": 6,
        "graft_images": 20,
    }
    params["dataset"] |= {"image_size": 16, "probe_images": 170}
    params["partition"] |= {"num_blocks": 2, "starts": 2, "random_partitions": 5}
    params["assembly"] |= {"head_images": 60}
    return project("cifar10", folder, params)


@pytest.fixture(scope="session")
def mda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on tiny networks under the names of the real ones, as it is before anything has run."""
    folder = tmp_path_factory.mktemp("mda")
    digits(folder / "images", 8)
    params = YAML(typ="safe").load(ROOT / "studies" / "mda" / "params.yaml")
    plain = {**PLAIN, "kwargs": {"widths": [[10], [12]]}, "input_size": 8}
    resnet = {**PUBLISHED, "weights": "train", "input_size": 8}
    models = {name: resnet if name.startswith("resnet") else plain for name in params["zoo"]["models"]}
    params["zoo"]["models"] = models
    params["zoo"]["training"] |= {"epochs": 16, "learning_rate": 1e-2, "batch_size": 16}
    params["zoo"]["training"]["augmentation"] = {"crop_padding": 0, "flip": False}
    params["dataset"] |= {"image_size": 8, "probe_images": 8}
    params["contributions"]["images_per_class"] = 10
    params["components"]["repair"]["images"] = 100
    few = {name: params["study"]["assemblies"][name] for name in ("halves", "three_networks")}
    params["study"] |= {"validation_images": 100, "tuning_images": 60, "assemblies": few, "budgets": [None]}
    params["study"] |= {"compared": ["vgg_b"], "routes": ["vgg_b"]}
    return project("mda", folder, params)


@pytest.fixture(scope="session")
def frontier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on networks of a few hundred parameters, as it is before anything has run."""
    folder = tmp_path_factory.mktemp("frontier")
    digits(folder / "images", 16)
    params = YAML(typ="safe").load(ROOT / "studies" / "frontier" / "params.yaml")
    shared = {"input_size": 16, "weights": "train", "training": {"epochs": 12, "learning_rate": 1e-2}}
    resnet = {"factory": "tests.pico:PicoResNet", **shared}
    plain = {**PLAIN, "kwargs": {"widths": [[6], [8], [8]]}, **shared}
    models = dict.fromkeys(params["zoo"]["models"], plain)
    models |= {"resnet32": resnet, "blurred": resnet, "vit": resnet}
    models |= {"first": {**plain, "classes": "0-4"}, "second": {**resnet, "classes": "5-9"}}
    params["zoo"]["models"] = models
    params["zoo"]["training"] |= {"batch_size": 16, "augmentation": {"crop_padding": 0, "flip": False}}
    for shelf in params["study"]["zoos"].values():
        shelf["train_images"] = None
    params["study"] |= {"apart": {"specialists": 30}, "budgets": 3, "full_budgets": 2, "select_images": 200}
    params["study"] |= {"frozen_images": 40, "full_images": 40, "shares": [0.8]}
    params["dataset"] |= {"image_size": 16, "probe_images": 60}
    params["partition"] |= {"num_blocks": 2, "starts": 2, "random_partitions": 5}
    params["assembly"] |= {"head_images": 60, "tails": 2}
    params["contributions"] |= {"images_per_class": 10}
    params["components"]["repair"] |= {"images": 60, "classifier_images": 60}
    return project("frontier", folder, params)
