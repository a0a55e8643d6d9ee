"""What params.yaml asks of the images: told before anything is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.params import put
from lib.base.errors import BrickyardError
from lib.images import agreement, data, sources
from lib.params import document
from lib.params.dataset import Dataset
from lib.params.parse import parse

SCRATCH = Path(".scratch")

DOCUMENT = parse(Path("params.yaml").read_bytes()).document
TAUGHT = {**DOCUMENT["finetune"]["full"], "distillation": 0.5}
CHOOSE = {"classes": "all", "models": ["plain_low", "plain_high"]}


@pytest.fixture(scope="module")
def images() -> data.DataSet:
    opened = sources.open_images(Dataset.model_validate(DOCUMENT["dataset"]), SCRATCH)
    return data.DataSet(opened, *[np.arange(4)] * 4)


MISTAKES = [
    ("zoo.models.vit.classes", "0-10", "zoo.models.vit.classes = '0-10'"),
    ("zoo.models.vit.classes", "3,3", "zoo.models.vit.classes = '3,3': is one class only"),
    ("zoo.models.vit.classes", "0,cat", "zoo.models.vit.classes = '0,cat': 'cat' is neither"),
    (
        "components.tasks.pair.classes",
        "4-5",
        "components.tasks.pair.classes = '4-5': plain_low does not know class '5'",
    ),
    ("components.tasks.low.classes", "dog", "components.tasks.low.classes = 'dog': 'dog' is neither"),
    ("lego.components", ["low", "pair"], "lego.components: low and pair both have class '0'; take it from one"),
    (
        "lego.choose",
        CHOOSE | {"models": ["plain_low"]},
        "lego.choose.classes = 'all': none of plain_low knows class '5'",
    ),
    ("lego.choose", CHOOSE | {"least": 11}, "lego.choose.least = 11: should be at most 10"),
    ("lego.choose", CHOOSE | {"classes": "11"}, "lego.choose.classes = '11'"),
    ("finetune.full.teacher", "plain_low", "finetune.full.teacher = 'plain_low': does not know class '5'"),
    ("lego.tuning", TAUGHT | {"teacher": "plain_high"}, "lego.tuning.teacher = 'plain_high': does not know class '0'"),
    ("assembly.head_images", 19, "assembly.head_images = 19: should be at least 20, 2 of each of the 10 classes"),
    ("assembly.rank_images", 9, "assembly.rank_images = 9: should be at least 10, 1 of each of the 10 classes"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES)
def test_what_the_images_do_not_have_is_one_line(key: str, value: Any, message: str, images: data.DataSet) -> None:
    changed = put(DOCUMENT, key, value)
    if key == "lego.choose":
        changed = put(changed, "lego.components", None)
    given, wrong = document.check(changed)
    assert wrong == []
    (line,) = agreement.mistakes(given, images)
    assert line.startswith(message)
    with pytest.raises(BrickyardError) as caught:
        agreement.check(given, images)
    assert str(caught.value) == f"params.yaml: {line}"


def test_an_ensemble_has_a_network_that_knows_all_classes(images: data.DataSet) -> None:
    document_ = put(put(DOCUMENT, "finetune.full.teacher", "ensemble"), "lego.components", ["low", "pair"])
    changed = put(put(document_, "components.tasks.pair.classes", "2-3"), "components.tasks.low.classes", "0-1")
    changed = put(changed, "lego.tuning", TAUGHT | {"teacher": "ensemble"})
    given, wrong = document.check(changed)
    assert [*wrong, *agreement.mistakes(given, images)] == []
    for name in ("resnet", "efficientnet", "convnext", "vit"):
        changed = put(changed, f"zoo.models.{name}.classes", "1-9")
    given, wrong = document.check(changed)
    line = "finetune.full.teacher = 'ensemble': no network of the zoo knows all classes of the task"
    assert [*wrong, *agreement.mistakes(given, images)] == [line]  # plain_low knows those of the components


def test_the_committed_file_asks_for_what_is_there(images: data.DataSet) -> None:
    given, wrong = document.check(DOCUMENT)
    assert [*wrong, *agreement.mistakes(given, images)] == []
    assert agreement.mistakes(document.check({})[0], images) == []
