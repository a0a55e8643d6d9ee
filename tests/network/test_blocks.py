"""Blocks and picks: their order, their runs, their JSON."""

import json
from typing import Any

import pytest

from lib.base.errors import BrickyardError
from lib.network.blocks import Block, Pick

TABLE = (
    (Block("a", 0, 2), Block("b", 0, 1)),
    (Block("a", 2, 3), Block("b", 1, 3)),
    (Block("a", 3, 5), Block("b", 3, 4)),
)


def test_a_pick_takes_a_column_of_each_row() -> None:
    pick = Pick.of(TABLE, (0, 1, 1))
    assert pick.blocks == (Block("a", 0, 2), Block("b", 1, 3), Block("b", 3, 4))
    assert pick.networks == ("a", "b", "b")
    with pytest.raises(ValueError, match="shorter"):
        Pick.of(TABLE, (0, 1))


def test_neighbours_of_one_network_run_as_one() -> None:
    assert Pick.of(TABLE, (1, 1, 1)).runs() == (Block("b", 0, 4),)
    assert Pick.of(TABLE, (0, 1, 1)).runs() == (Block("a", 0, 2), Block("b", 1, 4))
    assert Pick.of(TABLE, (0, 1, 0)).runs() == (Block("a", 0, 2), Block("b", 1, 3), Block("a", 3, 5))
    apart = (Block("a", 0, 2), Block("a", 3, 5))
    assert Pick(apart).runs() == apart  # node 3 is missing


def test_picks_are_in_the_order_of_their_columns() -> None:
    columns = [(i, j, k) for i in range(2) for j in range(2) for k in range(2)]
    picks = [Pick.of(TABLE, own) for own in columns]
    assert all((a < b) == (i < j) for i, a in enumerate(picks) for j, b in enumerate(picks))
    assert len(set(picks)) == 8


def test_a_block_covers_what_lies_inside_it() -> None:
    block = Block("a", 2, 5)
    assert block.covers(block)
    assert block.covers(Block("a", 3, 4))
    assert not block.covers(Block("b", 3, 4))
    assert not block.covers(Block("a", 1, 4))
    assert not block.covers(Block("a", 4, 6))


def test_json_and_back() -> None:
    pick = Pick.of(TABLE, (0, 1, 0))
    stored = json.loads(json.dumps(pick.to_dict()))
    assert stored["blocks"][1] == {"network": "b", "start": 1, "stop": 3}
    assert Pick.from_dict(stored) == pick
    assert [Block.from_dict(block) for block in stored["blocks"]] == list(pick.blocks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": 3}, "stop = 3 should be more than start = 3"),
        ({"start": -1}, "start = -1: should be greater than or equal to 0"),
        ({"stop": 2.5}, "stop = 2.5: should be a valid integer"),
        ({"network": "../a"}, "network = '../a': "),
        ({"nodes": []}, "nodes: unknown key"),
    ],
)
def test_what_is_no_block_is_one_line(change: dict[str, Any], said: str) -> None:
    stored = {"network": "b", "start": 1, "stop": 3} | change
    with pytest.raises(BrickyardError, match=rf"^damaged: .*{said}.*; dvc repro$"):
        Block.from_dict(stored)
    with pytest.raises(BrickyardError, match=rf"^damaged: blocks\.0.*{said}.*; dvc repro$"):
        Pick.from_dict({"blocks": [stored]})


def test_an_empty_pick_is_none() -> None:
    with pytest.raises(BrickyardError, match=r"damaged: blocks = \[\]"):
        Pick.from_dict({"blocks": []})
