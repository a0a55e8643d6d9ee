"""params.yaml: the committed file is valid, and each kind of mistake is one line that names its key."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from lib.base.errors import BrickyardError
from lib.params.base import read
from lib.params.components import Components
from lib.params.mistakes import validated
from lib.params.partition import Partition
from lib.params.sections import SECTIONS
from lib.params.training import Augmentation, Training
from lib.params.zoo import Zoo, ZooModel

PARTITION = (
    "partition: {num_blocks: 3, epsilon: 0.2, size: nodes, start: input, weights: {start: 1.0, end: 1.0}, "
    "solver: dp, starts: 5, bound: exact, gap: 0.0, random_partitions: 5}\n"
)
MISTAKES = [
    ("num_blocks: 3", "num_blocks: 1", r"partition\.num_blocks = 1: should be greater than or equal to 2"),
    ("num_blocks: 3", "num_blocks: three", r"partition\.num_blocks = 'three': should be a valid integer"),
    ("start: input", "start: middle", r"partition\.start = 'middle': should be 'input' or 'first_output'"),
    ("starts: 5, ", "", r"partition\.starts is missing"),
    ("starts: 5, ", "starts: 5, stars: 6, ", r"partition\.stars: unknown key; allowed: bound, cuts, epsilon, "),
    ("size: nodes", "size: flops", r"partition\.size = 'flops': should be 'nodes', 'params' or 'macs'"),
    ("start: 1.0, end: 1.0", "start: 0.0, end: 0.0", r"partition\.weights = .*: start or end must be above 0"),
    ("partition:", "partitions:", r"partitions: unknown section; allowed: run, dataset, zoo"),
    ("partition: {", "partition: {{", r"not valid YAML"),
]


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARTITION.replace(right, wrong))
    with pytest.raises(BrickyardError, match=message) as caught:
        read("partition", Partition, path=file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARTITION.replace("0.2", "1e-1"))
    assert read("partition", Partition, path=file).epsilon == 0.1


def test_a_missing_file_or_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match="run from the root"):
        read("partition", Partition, path=tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("zoo: {models: {}}\n")
    with pytest.raises(BrickyardError, match=r"zoo\.models\.resnet is missing"):
        read("zoo.models.resnet", ZooModel, path=tmp_path / "params.yaml")


TRAINING = "{epochs: 3, batch_size: 64, learning_rate: 1e-3, weight_decay: 0.05, warmup: 0.1, label_smoothing: 0.1"
TRAINING_MISTAKES = [
    ("epochs: 3", "epochs: -1", r"full\.epochs = -1: should be greater than or equal to 0"),
    ("batch_size: 64", "batch_size: 1", r"full\.batch_size = 1: should be greater than or equal to 2"),
    ("learning_rate: 1e-3", "learning_rate: 0", r"full\.learning_rate = 0: should be greater than 0"),
    ("warmup: 0.1", "warmup: 1", r"full\.warmup = 1: should be less than 1"),
    ("{epochs", "{ema: 1.0, epochs", r"full\.ema = 1\.0: should be less than 1"),
    ("{epochs", "{distillation: 1.0, epochs", r"full\.distillation = 1\.0: should be less than 1"),
    ("{epochs", "{precision: fp16, epochs", r"full\.precision = 'fp16': should be 'fp32' or 'bf16'"),
    (
        "{epochs",
        "{augmentation: {mixup: -1}, epochs",
        r"full\.augmentation\.mixup = -1: should be greater than or equal",
    ),
    *(
        (
            "{epochs",
            f"{{augmentation: {{randaugment: {given}}}, epochs",
            rf"randaugment = '{given}': timm does not know it",
        )
        for given in ("strong", "rand-x9")
    ),
]


@pytest.mark.parametrize(("right", "wrong", "message"), TRAINING_MISTAKES)
def test_a_mistake_in_a_tuning_protocol_is_one_line(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    file = tmp_path / "params.yaml"
    text = f"finetune:\n  ranks: [1]\n  frozen: {TRAINING}}}\n  full: {TRAINING.replace(right, wrong)}}}\n"
    file.write_text(text)
    with pytest.raises(BrickyardError, match=message) as caught:
        read("finetune.full", Training, path=file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("size: {bytes: 0.5}", r"size\.bytes: unknown key; allowed: macs, params"),
        ("size: {params: 0.5, what: 1}", r"size\.what: unknown key; allowed: macs, params"),
        ("size: 0.5", r"size = 0\.5: should be a mapping with macs, params"),
    ],
)
def test_a_mistake_in_what_may_be_null(tmp_path: Path, wrong: str, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"components: {{tasks: {{a: {{model: m, classes: all}}}}, {wrong}}}\n")
    with pytest.raises(BrickyardError, match=message):
        read("components", Components, path=file)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_committed_file_is_valid(section: str) -> None:
    module = __import__(f"lib.params.{section}", fromlist=[section])
    kind: Any = getattr(module, section.capitalize())
    assert read(section, kind) == read(section, kind)


def test_a_zoo_entry_names_one_architecture() -> None:
    for entry, message in [
        ({"weights": "train"}, "exactly one of timm, torchvision and factory"),
        ({"timm": "a", "factory": "b:c", "weights": "train"}, "exactly one of timm, torchvision and factory"),
        ({"factory": "b", "weights": "train"}, "must read path/to/file.py:function"),
        ({"factory": "b:c", "weights": "pretrained"}, "pretrained is for timm and torchvision"),
        ({"timm": "a", "weights": "train", "classes": "own"}, "needs classes of the data set"),
        ({"timm": "a", "weights": "random", "classes": "own"}, "random ones need classes of the data set"),
        ({"timm": "a", "weights": "random", "kwargs": {"num_classes": 3}}, r"num_classes follows from classes"),
        (
            {"timm": "a", "weights": "train", "training": {"epoch": 3}},
            r"m\.training\.epoch: unknown key; allowed: accumulate, aug",
        ),
        (
            {"timm": "a", "weights": "train", "training": {"learning_rate": -1.0}},
            r"m\.training\.learning_rate = -1\.0: should be greater than 0",
        ),
        (
            {"timm": "a", "weights": "train", "training": {"augmentation": {"flop": True}}},
            r"m\.training\.augmentation\.flop: unknown key; allowed: crop_padding",
        ),
        ({"timm": "a", "weights": "train", "kwargs": {"num_classes": 3}}, r"num_classes follows from classes"),
        ({"timm": "a", "weights": "train", "kwargs": {"a": [1.0, {"b": math.inf}]}}, r"kwargs = .*: a\.1\.b = inf"),
        ({"timm": "a", "weights": "train", "kwargs": {"a b": 1}}, r"'a b' cannot be the name of an argument"),
        ({"timm": "a", "weights": "train", "kwargs": {"a": {1: 2}}}, r"a: the key 1 should be text"),
    ]:
        found, (line,) = validated(entry, "m", ZooModel)
        assert found is None
        assert re.search(message, line), line


def test_a_name_that_dvc_would_not_take_is_refused(tmp_path: Path) -> None:
    text = Path("params.yaml").read_text().replace("    resnet:\n", "    resnet.v2:\n")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(
        BrickyardError,
        match=r"zoo\.models\.resnet\.v2: a name begins with a letter and has letters, digits, _ and - only",
    ):
        read("zoo", Zoo, path=tmp_path / "params.yaml")


def test_an_entrys_training_overrides_the_default() -> None:
    zoo = read("zoo", Zoo)
    entry = ZooModel.model_validate({"timm": "resnet18", "weights": "train", "training": {"epochs": 99}})
    assert entry.override(zoo.training) == zoo.training.model_copy(update={"epochs": 99})


def test_an_entrys_augmentation_overrides_single_values() -> None:
    zoo = read("zoo", Zoo)
    defaults = zoo.training.model_copy(update={"augmentation": Augmentation(crop_padding=4, flip=True, mixup=0.1)})
    own = {"augmentation": {"mixup": 0.2, "flip": False}}
    entry = ZooModel.model_validate({"timm": "resnet18", "weights": "train", "training": own})
    assert entry.override(defaults).augmentation == Augmentation(crop_padding=4, flip=False, mixup=0.2)
    assert entry.place("m", "augmentation.mixup") == "zoo.models.m.training.augmentation.mixup"
    assert entry.place("m", "augmentation.crop_padding") == "zoo.training.augmentation.crop_padding"
