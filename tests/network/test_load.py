"""One call opens any network, and says in one line why it does not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.network.assembled import Assembled
from lib.network.component import Component
from lib.network.files import load_as, save
from lib.network.load import load
from lib.network.reassembled import Reassembled
from lib.zoo import architecture
from lib.zoo.card import Card
from tests.network.made import KINDS, Made

Saved = tuple[Path, dict[str, Made]]
OLD = Path(__file__).parent / "old"
TYPES = {"zoo": Card, "reassembled": Reassembled, "component": Component, "assembled": Assembled}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back_bit_for_bit(saved: Saved, tmp_path: Path, kind: str) -> None:
    network, recipe = saved[1][kind]
    again, read = load(saved[0] / kind)
    assert read == recipe
    assert type(read) is TYPES[kind]
    assert (read.kind, read.input, read.licences) == (kind, saved[1]["zoo"][1].input, ("MIT",))
    assert read.cost.params == sum(parameter.numel() for parameter in network.parameters())
    assert read.checksum == artifacts.stored_checksum(saved[0] / kind / "model.safetensors")
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    x = torch.rand(3, *read.input.shape)
    assert torch.equal(again(x), network(x))
    assert again(x).shape == (3, len(read.classes))
    assert not again.training
    assert save(tmp_path, again, read) == read
    for file in ("model.safetensors", read.file):
        assert (tmp_path / file).read_bytes() == (saved[0] / kind / file).read_bytes()


def test_saving_leaves_the_network_as_it_was(saved: Saved, tmp_path: Path) -> None:
    network, recipe = load(saved[0] / "zoo")
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save(tmp_path, network, recipe)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


def _json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A change to card.json or recipe.json, its seal made anew."""

    def edit(folder: Path) -> None:
        file = next(folder.glob("*.json"))
        stored = artifacts.read_json(file)
        change(stored)
        artifacts.write_json(file, stored)

    return edit


def _weights(value: float, recorded: bool) -> Callable[[Path], None]:
    """Other weights; recorded: that the JSON gives the checksum of."""

    def edit(folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in artifacts.read_tensors(file).items()}
        next(tensor for tensor in tensors.values() if tensor.is_floating_point()).view(-1)[0] = value
        checksum = artifacts.write_tensors(file, tensors)
        if recorded:
            _json(lambda stored: stored.update(checksum=checksum))(folder)

    return edit


def _cut_short(folder: Path) -> None:
    file = next(folder.glob("*.json"))
    file.write_bytes(file.read_bytes()[:-20])


def _flipped(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors not found"),
    "half of the JSON": (_cut_short, r"\.json is not valid JSON: .*commands\.heal"),
    "a flipped bit": (_flipped, r"model\.safetensors is damaged: its content does not match"),
    "swapped weights": (
        _weights(3.0, recorded=False),
        r"model\.safetensors does not belong to the JSON beside it",
    ),
    "NaN": (_weights(float("nan"), recorded=True), r"model\.safetensors: .* holds NaN or infinite numbers"),
    "another kind": (_json(lambda s: s.update(kind="soup")), r"\.json: kind = 'soup': should be "),
    "an earlier format": (
        _json(lambda s: s.update(format=2)),
        r"\.json: format = 2: this code reads format \d alone",
    ),
    "no classes": (_json(lambda s: _described(s).pop("classes")), r"\.json: damaged: .*classes is missing; dvc repro"),
    "a class too many": (
        _json(lambda s: _described(s)["classes"].append("z")),
        r"[34] classes|one factor|cost\.params",
    ),
    "another cost": (_json(lambda s: s["cost"].update(params=7)), r"\.json: cost\.params = 7, but the network has "),
}


def _described(stored: dict[str, Any]) -> dict[str, Any]:
    """What names classes: the network, or the first of its components."""
    return stored["parts"]["low"] if stored["kind"] == "assembled" else stored


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_one_line(saved: Saved, tmp_path: Path, kind: str, damage: str) -> None:
    folder = tmp_path / "network"
    shutil.copytree(saved[0] / kind, folder)
    edit, line = DAMAGE[damage]
    edit(folder)
    for opening in (lambda: load(folder), lambda: load_as(TYPES[kind], folder)):
        with pytest.raises(BrickyardError, match=line) as caught:
            opening()
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_another_kind_than_the_wanted_is_one_line(saved: Saved, kind: str) -> None:
    folder = saved[0] / kind
    for other in KINDS:
        if other != kind:
            with pytest.raises(BrickyardError, match=rf"not a network of kind '{other}'|should be '{other}'") as caught:
                load_as(TYPES[other], folder)
            assert str(folder) in str(caught.value)


def test_a_folder_without_a_network_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BrickyardError, match=r"holds no network: neither card\.json nor recipe\.json is there"):
            load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_an_earlier_version(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved before cards and recipes had a common format: cards have had the same form ever since."""
    monkeypatch.setattr(architecture, "ROOT", OLD)
    if kind == "zoo":
        network, card = load(OLD / kind)
        assert (card.kind, card.classes) == ("zoo", ("a", "b", "c"))
        logits = network(torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16))[0].tolist()
        assert logits == pytest.approx(LOGITS, rel=1e-4)
        return
    with pytest.raises(BrickyardError, match=r"recipe\.json: format = .*: this code reads format .* alone; dvc repro"):
        load(OLD / kind)


LOGITS = [0.388415, 0.294323, -0.181931]  # of the version that saved it
