"""A zoo on disk: networks are opened when they are needed, a few at a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.chain.layout import Layout
from lib.dery.assembly import material as lib_bricks
from lib.dery.assembly.material import Bricks, open_bricks
from lib.images.data import DataSet
from lib.network import files
from lib.network.blocks import Block
from lib.params.assembly import Assembly
from lib.params.edges import Edges
from lib.params.zoo import ZooModel
from lib.trace import cost
from lib.zoo.architecture import Trust
from lib.zoo.card import Card


def test_a_few_networks_are_open_at_once(
    bricks: Bricks, images: DataSet, params: Callable[..., Assembly], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"copy{i}" for i in range(5)]
    model, card = bricks.chains[0]._model, bricks.cards[0]
    for name in names:
        files.save(tmp_path / name, model, replace(card, name=name, cost=cost.count(model, card.input.shape)))
    entry = ZooModel(factory=card.architecture.factory, weights="train")
    cuts = dict.fromkeys(names, (0, 1, 3, 4))
    opened: list[str] = []
    load = files.load_as

    def counted(kind: type[Card], folder: Path, trust: Trust) -> object:
        opened.append(folder.name)
        return load(kind, folder, trust)

    monkeypatch.setattr(lib_bricks, "OPEN", 2)
    monkeypatch.setattr(lib_bricks.files, "load_as", counted)
    found = open_bricks(tmp_path, names, cuts, images, Edges(), 0, params(), dict.fromkeys(names, entry))
    assert opened == []
    assert len(found.chains[3]) == 4
    assert found.chains[3] is found.chains[3]
    assert [len(found.chains[m]) for m in (0, 3, 1, 0)] == [4] * 4
    assert opened == ["copy3", "copy0", "copy1", "copy0"]
    assert found.fit[0] is found.fit[4]  # the same images for networks that expect the same
    assert [len(chain) for chain in found.chains[1:3]] == [4, 4]


def test_a_pick_takes_the_blocks_of_the_cuts(bricks: Bricks) -> None:
    assert bricks.pick((0, 0, 2)).runs() == (Block("resnet", 0, 3), Block("plain", 2, 3))
    assert bricks.pick((0, 1, 0)).blocks == (Block("resnet", 0, 1), Block("vit", 1, 2), Block("resnet", 3, 4))
    assert bricks.whole(1).runs() == (Block("vit", 0, 3),)
    assert [bricks.place(card.name) for card in bricks.cards] == [0, 1, 2]


def test_which_patches_a_stitch_may_look_at(bricks: Bricks) -> None:
    big, small = Layout("tokens", 3, 8, 8, 1), Layout("nchw", 5, 2, 2)

    def allowed(**settings: Any) -> tuple[int, ...]:
        return replace(bricks, joining=Edges(**settings)).patches(big, small)

    assert allowed() == (1, 2)
    assert allowed(down="patch") == (2,)
    assert allowed(down="pool") == (1,)
    assert allowed(init="random") == (1,)  # nothing is fitted that could choose
    assert bricks.patches(small, big) == (1,)
