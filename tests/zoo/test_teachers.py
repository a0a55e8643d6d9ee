"""Teachers: whose logits they are the mean of, and what is refused."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.params.training import Tuning
from lib.zoo.card import Input
from lib.zoo.teachers import Teacher, lend, named
from tests import pico

GIVEN = Input(16, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic", 1.0)
SMALLER = Input(8, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic", 1.0)
CLASSES = {
    **{"all": ("a", "b", "c", "d"), "turned": ("d", "c", "b", "a")},
    **{"more": ("x", "b", "a", "c", "d"), "few": ("a", "b")},
}


@dataclass(frozen=True)
class Known:
    input: Input
    classes: tuple[str, ...]


def _network(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return pico.alive(pico.plain(len(CLASSES[name])))


def test_an_ensemble_answers_with_the_mean_of_the_logits() -> None:
    """Of networks that expect other images, and know the classes in another order or further ones."""
    networks = {name: _network(name, seed) for seed, name in enumerate(("all", "turned", "more"))}
    inputs = {"all": GIVEN, "turned": SMALLER, "more": GIVEN}

    def prepared(expected: Input) -> torch.Tensor:
        x = F.avg_pool2d(raw, 2) if expected.size == 8 else raw
        mean, std = (torch.tensor(v)[:, None, None] for v in (expected.mean, expected.std))
        return (x - mean) / std

    raw = F.interpolate(torch.rand(3, 3, 1, 1), (16, 16))  # so that resizing is exact
    with torch.no_grad():
        answers = {name: network(prepared(inputs[name])) for name, network in networks.items()}
        expected = sum(answers[name][:, [CLASSES[name].index(c) for c in "abcd"]] for name in networks) / 3
        members = [(network, Known(inputs[name], CLASSES[name])) for name, network in networks.items()]
        teacher = Teacher(members, CLASSES["all"], GIVEN)
        torch.testing.assert_close(teacher(prepared(GIVEN)), expected, rtol=1e-4, atol=1e-5)
        alone = Teacher(members[:1], CLASSES["all"], GIVEN)(prepared(GIVEN))
        torch.testing.assert_close(alone, answers["all"], rtol=1e-5, atol=1e-6)


def test_the_networks_are_left_alone() -> None:
    network = _network("all", 0).train()
    teacher = Teacher([(network, Known(GIVEN, CLASSES["all"]))], CLASSES["all"], GIVEN)
    before = [tensor.clone() for tensor in network.state_dict().values()]
    teacher(torch.rand(2, 3, 16, 16))
    assert network.training
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


def test_names_mean_networks_that_know_the_classes() -> None:
    assert named("k", "turned", CLASSES, "abcd") == ["turned"]
    assert named("k", "ensemble", CLASSES, "abcd") == ["all", "more", "turned"]
    assert named("k", "ensemble", CLASSES, "ba") == ["all", "few", "more", "turned"]
    assert named("k", Tuning.model_fields["teacher"].default, CLASSES, "abcd", best="more") == ["more"]


@pytest.mark.parametrize(
    ("teacher", "classes", "message"),
    [
        ("few", "abcd", r"^k = 'few': does not know class 'c'; name one that knows all: all, more, turned$"),
        ("ensemble", "abz", r"^k = 'ensemble': no network of the zoo knows all classes of the task$"),
        ("none", "ab", r"^k = 'none': is not one of zoo.models; name one that knows all: all, few, more, turned$"),
        ("budget", "xb", r"^k = 'budget': no network of the zoo is within the budget; name one that knows all: more$"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(teacher: str, classes: str, message: str) -> None:
    with pytest.raises(BrickyardError, match=message):
        named("k", teacher, CLASSES, classes)


def test_what_is_lent_is_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        (tmp_path / "zoo" / name / "card.json").write_text(name)
        (tmp_path / "zoo" / name / "card.json").chmod(0o444)  # as DVC leaves it
    lend(["two"], tmp_path / "zoo", tmp_path / "teachers")
    (there,) = (tmp_path / "teachers").iterdir()
    assert (there / "card.json").read_text() == "two"
    (there / "card.json").write_text("can be written")
