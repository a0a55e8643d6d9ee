"""What came with a network runs no code: strangers' files, of each kind, with right checksums."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.network.load import load
from lib.zoo import architecture
from lib.zoo.architecture import Factory
from tests.network.made import ENTRY, KINDS


def _file(kind: str) -> str:
    return "card.json" if kind == "zoo" else "recipe.json"


def _architecture(kind: str, stored: Any) -> dict[str, Any]:
    """That of a network, or of one of its sources."""
    if kind == "assembled":
        stored = stored["parts"]["low"]
    if kind == "reassembled":
        return stored["sources"][0]["architecture"]
    return stored["architecture"] if kind == "zoo" else stored["source"]["architecture"]


def _copy(made: Path, kind: str, to: Path, change: Callable[[Any], Any]) -> Path:
    """The network with JSON that a stranger has changed, its checksum made anew."""
    to.mkdir(parents=True, exist_ok=True)
    (to / "model.safetensors").unlink(missing_ok=True)
    (to / "model.safetensors").symlink_to(made / kind / "model.safetensors")
    stored = artifacts.read_json(made / kind / _file(kind))
    changed = change(stored)
    artifacts.write_json(to / _file(kind), stored if changed is None else changed)
    return to


CODE = """
from pathlib import Path
from subprocess import run
Path({marker!r}).touch()
def make(**kwargs): raise RuntimeError("ran")
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of which only data/models matters; `marker` shows that a file of it has run."""
    folder = tmp_path / "repository" / "data" / "models"
    folder.mkdir(parents=True)
    code = CODE.format(marker=str(tmp_path / "marker"))
    (folder / "stranger.py").write_text(code)
    (tmp_path / "outside.py").write_text(code)
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    monkeypatch.setattr(architecture, "ROOT", tmp_path / "repository")
    return folder


ATTACKS: dict[str, tuple[dict[str, Any], str]] = {
    "a command": ({"factory": "os:system", "kwargs": {"command": "touch {tmp}/marker"}}, "would run os:system, which"),
    "an absolute path": ({"factory": "{tmp}/outside.py:make"}, "would run .*outside.py:make, which stands in no file"),
    "a way up": ({"factory": "data/models/../../../outside.py:make"}, "would run .*which stands in no file below"),
    "a symlink": ({"factory": "data/models/link.py:make"}, "would run .*which stands in no file below data/models"),
    "a module": ({"factory": "data.models.stranger:make"}, "would run .*which stands in no file below data/models"),
    "no hash": ({"factory": "data/models/stranger.py:make", "sha256": None}, "names no sha256 of it"),
    "another hash": ({"factory": "data/models/stranger.py:make", "sha256": "0" * 64}, "has changed since the network"),
    "a dotted name": ({"factory": "data/models/stranger.py:make.__globals__"}, "is not the name of a function"),
    "a dunder": ({"factory": "data/models/stranger.py:__import__"}, "is not the name of a function"),
    "a checkpoint": (
        {"factory": None, "timm": "resnet18", "sha256": None, "kwargs": {"checkpoint_path": "/etc/passwd"}},
        r"timm resnet18: kwargs\.checkpoint_path loads files or weights",
    ),
    "a hub, nested": (
        {"factory": None, "timm": "resnet18", "kwargs": {"block_args": [{"pretrained_cfg": {"url": "http://x"}}]}},
        r"kwargs\.pretrained_cfg loads files",
    ),
    "a hub by name": ({"factory": None, "timm": "hf-hub:x/y", "kwargs": {}}, "timm has no architecture 'hf-hub:x/y'"),
    "torchvision's weights": (
        {"factory": None, "torchvision": "resnet18", "kwargs": {"weights": "DEFAULT"}},
        r"torchvision resnet18: kwargs\.weights loads",
    ),
    "a factory's weights": ({"kwargs": {"weights": "/etc/passwd"}}, r"kwargs\.weights loads files"),
    "two architectures": ({"timm": "resnet18"}, "exactly one of timm, torchvision and factory"),
    "a million classes": ({"factory": None, "timm": "resnet18", "num_classes": 10**7}, "num_classes = 10000000"),
    "gigabytes": (
        {"factory": None, "timm": "resnet18", "kwargs": {"channels": [2**17] * 4}},
        "its weights would take more than the",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_file_runs_nothing(made: Path, models: Path, tmp_path: Path, kind: str) -> None:
    for name, (change, line) in ATTACKS.items():
        filled = json.loads(json.dumps(change).replace("{tmp}", str(tmp_path)))
        folder = _copy(made, kind, tmp_path / "net", lambda s, c=filled: _architecture(kind, s).update(c))
        with pytest.raises(BrickyardError, match=line) as caught:
            load(folder)
        assert str(folder / _file(kind)) in str(caught.value), name
        assert not (tmp_path / "marker").exists(), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trusted_runs(made: Path, models: Path, tmp_path: Path, kind: str) -> None:
    where = f"{tmp_path}/outside.py:make"
    change = {"factory": where, "sha256": Factory.find(where, trust=True).sha256}
    folder = _copy(made, kind, tmp_path / "net", lambda s: _architecture(kind, s).update(change))
    with pytest.raises(BrickyardError, match="RuntimeError: ran"):
        load(folder, trust=True)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_stages_trust_the_entry_alone(made: Path, tmp_path: Path, kind: str) -> None:
    load(made / kind, trust={"plain": ENTRY})
    other = ENTRY.model_copy(update={"kwargs": {"widths": [[4], [7]]}})
    with pytest.raises(BrickyardError, match=r"params\.yaml: zoo\.models\.plain\.kwargs = .*7"):
        load(made / kind, trust={"plain": other})
    folder = _copy(made, kind, tmp_path / "net", lambda s: _architecture(kind, s).update(factory="os:system"))
    with pytest.raises(BrickyardError, match=r"'os:system', but params\.yaml: zoo\.models\.plain\.factory = 'data"):
        load(folder, trust={"plain": ENTRY})
    with pytest.raises(BrickyardError, match=r"the network of plain, not of x|would run os:system"):
        load(folder, trust={"x": ENTRY})


def test_an_import_of_a_file_in_data_models_is_no_factory(made: Path, models: Path, tmp_path: Path) -> None:
    digest = Factory.find("data/models/stranger.py:run", trust=False).sha256
    change = {"factory": "data/models/stranger.py:run", "sha256": digest, "kwargs": {"args": "true"}}
    folder = _copy(made, "zoo", tmp_path / "net", lambda s: _architecture("zoo", s).update(change))
    with pytest.raises(BrickyardError, match="run is not defined there"):
        load(folder)


VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 10**30, 1e308, -0.5, "", "x", "<script>", "a\nb", "\ud800", [], {}, [[]], {"a": 1}),
    *([-1], [2, 1], [0, 0], ["a", "a"], [None] * 3, {"kind": "block"}, "os:system"),
)


def _mutated(stored: Any, chance: random.Random) -> Any:
    """JSON with one value replaced, removed or doubled, anywhere."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(stored)
    node, key = chance.choice(places)
    how = chance.randrange(5)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, list):
        node.insert(key, node[key])
    elif how == 1:
        node[f"{key}_"] = node[key]
    else:
        node[key] = chance.choice(VALUES)
    return stored


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_one_line_or_the_same_network(made: Path, tmp_path: Path, kind: str) -> None:
    chance, x, refused = random.Random(1), torch.rand(2, 3, 16, 16), 0
    with torch.no_grad():
        expected = load(made / kind)[0](x)
    for _ in range(40):
        stored = _mutated(artifacts.read_json(made / kind / _file(kind)), chance)
        try:
            folder = _copy(made, kind, tmp_path / "net", lambda _, changed=stored: changed)
        except BrickyardError:  # what no JSON can hold
            continue
        try:
            again, _ = load(folder)
        except BrickyardError as error:
            refused, line = refused + 1, str(error)
        else:
            line = str(folder)
            with torch.no_grad():
                assert torch.allclose(again(x), expected, atol=1e-5)
        assert str(folder) in line
        assert "\n" not in line
    assert refused > 20
