"""A reassembled network on disk: one call opens it anywhere, it learns, and what is wrong with it is one line."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.base import artifacts
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.network import files
from lib.network import load as network
from lib.network.modules import ReassembledNetwork
from lib.zoo.architecture import Architecture
from tests import pico


@pytest.fixture(scope="module")
def saved(bricks: Bricks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resnet, then vit, then resnet again, whose own head it keeps."""
    folder = tmp_path_factory.mktemp("network")
    files.save(folder, *reassemble(bricks, bricks.pick((0, 1, 0))))
    return folder


@pytest.fixture(scope="module")
def closed_form(bricks: Bricks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain last, which does not know the task."""
    folder = tmp_path_factory.mktemp("network")
    files.save(folder, *reassemble(bricks, bricks.pick((0, 0, 2))))
    return folder


def load(folder: Path | str) -> ReassembledNetwork:
    """With the factories of these tests."""
    made, recipe = network.load(folder, trust=True)
    assert isinstance(made, ReassembledNetwork)
    assert made.recipe == recipe
    return made


def _images() -> torch.Tensor:
    return torch.rand(4, *pico.IMAGE, generator=torch.Generator().manual_seed(0))


def _same(one: ReassembledNetwork, other: ReassembledNetwork) -> bool:
    with torch.no_grad():
        return torch.equal(one(_images()), other(_images()))


def test_keys_say_where_weights_come_from(saved: Path, closed_form: Path) -> None:
    keys = set(load(saved).state_dict())
    assert {"resnet_1_1.conv.weight", "resnet_4_4.stages.1.1.conv1.weight", "stitch_1.channels.weight"} <= keys
    assert {key.split(".")[0] for key in keys} == {
        "resnet_1_1",
        "stitch_1",
        "vit_2_2",
        "stitch_2",
        "resnet_4_4",
        "head",
    }
    assert {"head.weight", "head.bias"} <= set(load(closed_form).state_dict())


def test_the_recipe_gives_credit(saved: Path, closed_form: Path, bricks: Bricks) -> None:
    recipe = load(closed_form).recipe
    assert recipe.licences == ("MIT",)
    assert load(saved).recipe.licences == ("Apache-2.0", "MIT")
    assert recipe.parts[0]["nodes"] == [node.name for node in bricks.chains[0].nodes[0:3]]
    assert recipe.parts[1]["r2"] <= 1
    head = json.loads((closed_form / "recipe.json").read_text())["tails"][0]["head"]
    assert (head["method"], head["shrinkage"], head["images"]) == ("lda", 1e-3, 48)
    assert load(saved).recipe.tails[0].head == "resnet"
    assert set(recipe.versions) == {"timm", "torch", "torchvision"}


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = load(saved)
    files.save(tmp_path, again, again.recipe)
    for name in ("recipe.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()
    assert str(ROOT) not in (saved / "recipe.json").read_text()


def test_a_copy_opens_in_another_process_and_folder(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "moved" / "network")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import torch
from lib.network.load import load
network, recipe = load("moved/network", trust=True)
x = torch.rand(4, *recipe.input.shape, generator=torch.Generator().manual_seed(0))
print(network(x).double().sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    with torch.no_grad():
        assert float(done.stdout) == pytest.approx(float(load(str(saved))(_images()).double().sum()), rel=1e-6)


def test_it_learns_in_train_mode_and_its_copy_does_not(saved: Path, tmp_path: Path) -> None:
    trained, kept = load(saved), load(saved)
    copy = deepcopy(trained)
    assert copy.recipe == trained.recipe
    trained.train()
    optimizer = torch.optim.SGD(trained.parameters(), 0.1)
    torch.nn.functional.cross_entropy(trained(_images()), torch.arange(4)).backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())
    optimizer.step()
    trained.eval()
    assert _same(copy, kept)
    assert not _same(trained, kept)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    kept.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert _same(trained, kept)
    files.save(tmp_path, trained, trained.recipe)
    assert _same(load(tmp_path), trained)


def test_blocks_that_have_a_module_of_their_source_in_common_stay_apart(bricks: Bricks, tmp_path: Path) -> None:
    made, recipe = reassemble(bricks, bricks.pick((0, 1, 0)))
    first, last = (
        part for part, described in zip(made.parts, recipe.parts, strict=True) if described.get("source") == "resnet"
    )
    assert not {id(p) for p in first.parameters()} & {id(p) for p in last.parameters()}
    loaded = recipe.build(trust=True)
    assert len({p.data_ptr() for p in loaded.parameters()}) == len(list(loaded.parameters()))


def test_weights_that_a_network_shares_can_be_saved(tmp_path: Path) -> None:
    weight = torch.rand(3, 3)
    artifacts.write_tensors(tmp_path / "shared.safetensors", {"a": weight, "b": weight, "c": weight[1:]})
    read = artifacts.read_tensors(tmp_path / "shared.safetensors")
    assert torch.equal(read["a"], weight)
    assert torch.equal(read["b"], weight)
    assert torch.equal(read["c"], weight[1:])


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        recipe = json.loads((folder / "recipe.json").read_text())
        change(recipe)
        artifacts.write_json(folder / "recipe.json", recipe)

    return edit


def _weights(change: Callable[[dict[str, torch.Tensor]], object], recorded: bool) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = {
            name: tensor.clone() for name, tensor in artifacts.read_tensors(folder / "model.safetensors").items()
        }
        change(tensors)
        checksum = artifacts.write_tensors(folder / "model.safetensors", tensors)
        if recorded:
            _edited(lambda recipe: recipe.update(checksum=checksum))(folder)

    return edit


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda folder: (folder / "recipe.json").write_text('{"kind": '), r"recipe\.json is not valid JSON"),
        (
            lambda folder: (folder / "recipe.json").unlink(),
            r"holds no network: neither card",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors not found"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), r"model\.safetensors is damaged"),
        (_edited(lambda r: r.update(format=1)), r"recipe\.json: format = 1: this code reads format 4 alone; dvc repro"),
        (_edited(lambda r: r.pop("format")), r"recipe\.json: format = None: this code reads format 4 alone; dvc"),
        (
            _edited(lambda r: r.update(kind="lego")),
            r"recipe\.json: kind = 'lego': should be one of reassembled",
        ),
        (_edited(lambda r: r.update(kind="component", format=3)), r"recipe\.json: damaged: .* is missing"),
        (_edited(lambda r: r.pop("parts")), r"recipe\.json: damaged: parts is missing; dvc repro"),
        (_edited(lambda r: r["sources"].pop(1)), r"recipe\.json: 'vit' is none of its sources: resnet"),
        (_edited(lambda r: r["sources"].append(r["sources"][0])), r"recipe\.json: damaged: a source appears twice"),
        (_edited(lambda r: r["tails"][0].update(head="swin")), r"recipe\.json: 'swin' is none of its sources"),
        (
            _edited(lambda r: r["tails"][0].update(head={"method": "lda"})),
            r"recipe\.json: damaged: tails.*head.*layout is missing",
        ),
        (_edited(lambda r: r["parts"][0].update(stop=2)), r"recipe\.json: nodes 1-2 of resnet are .* in the recipe"),
        (_edited(lambda r: r["parts"][0].update(start="x")), r"recipe\.json: damaged: "),
        (_edited(lambda r: r["parts"][1]["source"].update(kind="cube")), r"recipe\.json: damaged: "),
        (_edited(lambda r: r["parts"][1].update(colour="red")), r"recipe\.json: damaged: .*colour"),
        (_edited(lambda r: r["classes"].append("ninth")), r"recipe\.json: 5 classes, but the network gives 4 logits"),
        (
            _weights(lambda t: t["head.fc.bias"].add_(1), False),
            r"does not belong to the JSON beside it; dvc repro",
        ),
        (
            _weights(lambda t: t["head.fc.bias"].mul_(float("nan")), True),
            r"head\.fc\.bias holds NaN or infinite numbers",
        ),
        (_weights(lambda t: t.pop("head.fc.bias"), True), r"model\.safetensors leaves head\.fc\.bias unfilled"),
    ],
)
def test_what_is_wrong_is_one_line(saved: Path, tmp_path: Path, damage: Callable[[Path], object], line: str) -> None:
    folder = tmp_path / "network"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(BrickyardError, match=line) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_head_for_other_classes_than_the_recipes_is_refused(closed_form: Path, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    shutil.copytree(closed_form, folder)
    _edited(lambda recipe: recipe["classes"].append("ninth"))(folder)
    with pytest.raises(BrickyardError, match=r"cost\.params = \d+, but the network has"):
        load(folder)


def test_a_factory_whose_code_is_gone_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    shutil.copytree(saved, folder)
    _edited(lambda r: r["sources"][0]["architecture"].update(factory="data/models/gone.py:make"))(folder)
    expected = r"recipe\.json: factory data/models/gone\.py:make: data/models/gone\.py not found in .*; it holds the"
    with pytest.raises(BrickyardError, match=expected):
        load(folder)


def test_code_in_the_repository_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Architecture(None, None, "data/models/plain_cnn.py:plain_cnn", None, {}, 3).build(trust=True)
    assert made(torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_blocks_are_named_by_their_nodes_once(saved: Path) -> None:
    recipe = load(saved).recipe
    assert all(re.fullmatch(r"stitch_\d+|\w+_\d+_\d+", name) for name in recipe.names)
    assert len(set(recipe.names)) == len(recipe.parts)
