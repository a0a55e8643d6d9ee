"""The matrix of a whole zoo: its bits depend on nothing but the two networks that are compared."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.base import memo
from lib.base.memo import Memo
from lib.dery.similarity import covariance, gram, hsic
from lib.dery.similarity import matrix as matrix_module
from lib.dery.similarity.index import find
from lib.dery.similarity.layers import Network, Pair, Tile
from lib.dery.similarity.matrix import matrix
from tests.dery.similarity.naive import DEFINITIONS, network, params, zoo

MEMORY = 2**30
WIDTHS = [(3, 700, 40, 500, 9), (5, 17), (900, 300, 6)]


def _part(whole: torch.Tensor, networks: list[Network], chosen: list[int]) -> torch.Tensor:
    """Rows and columns of some networks."""
    starts = [sum(len(net.layers) for net in networks[:m]) for m in chosen]
    rows = [start + i for m, start in zip(chosen, starts, strict=True) for i in range(len(networks[m].layers))]
    return whole[rows][:, rows]


@pytest.fixture(params=[*DEFINITIONS, "cka by kernels", "cka_debiased by kernels", "minibatches"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index, CKA in both its forms."""
    name, _, form = request.param.partition(" ")
    if form:
        monkeypatch.setattr(hsic, "prefers_gram", lambda *_: True)
    elif name == "cka":
        monkeypatch.setattr(hsic, "prefers_gram", lambda *_: False)
    return name


def _matrix(networks: list[Network], index: str, memory: int = MEMORY, kept: Memo | None = None) -> torch.Tensor:
    chosen = params("cka_debiased", batch_images=200) if index == "minibatches" else params(index)
    return matrix(networks, chosen, memory, kept)


def _networks(index: str) -> list[Network]:
    """More images than columns where an index asks for it."""
    return zoo(530, *WIDTHS) if index not in ("lr", "cca") else zoo(530, (3, 90, 40), (5, 17), (200, 60, 6))


def test_bits_do_not_depend_on_the_zoo(index: str) -> None:
    networks = _networks(index)
    whole = _matrix(networks, index)
    for chosen in ([0, 1], [2, 0], [1], [2, 1, 0]):
        assert torch.equal(_matrix([networks[m] for m in chosen], index), _part(whole, networks, chosen))


def test_bits_do_not_depend_on_memory(index: str) -> None:
    networks = _networks(index)
    whole = _matrix(networks, index)
    for memory in (1, 2**22, 2**23):
        assert torch.equal(_matrix(networks, index, memory), whole)


def test_bits_do_not_depend_on_the_memo(index: str, tmp_path: Path) -> None:
    networks = _networks(index)
    whole = _matrix(networks, index)
    kept = Memo(tmp_path)
    assert torch.equal(_matrix(networks[:2], index, kept=kept), _part(whole, networks, [0, 1]))
    assert len(list(tmp_path.iterdir())) == 3
    assert torch.equal(_matrix(networks, index, kept=kept), whole)
    assert len(list(tmp_path.iterdir())) == 6
    assert torch.equal(_matrix(networks[::-1], index, kept=kept), _part(whole, networks, [2, 1, 0]))
    assert len(list(tmp_path.iterdir())) == 6


def _asked(monkeypatch: pytest.MonkeyPatch, index: str = "cka") -> list[list[Pair]]:
    """What the function of an index is asked to compute, call by call."""
    asked: list[list[Pair]] = []
    found: Any = find(index)
    compute = found.tiles

    def counting(networks: list[Network], pairs: list[Pair], *more: Any) -> Iterator[Tile]:
        asked.append(list(pairs))
        return compute(networks, pairs, *more)

    monkeypatch.setattr(found, "tiles", counting)
    return asked


def test_a_new_network_costs_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _asked(monkeypatch)
    networks = zoo(50, *WIDTHS)
    _matrix(networks[:2], "cka", kept=Memo(tmp_path))
    _matrix(networks, "cka", kept=Memo(tmp_path))
    _matrix(networks, "cka", kept=Memo(tmp_path))
    assert asked == [[(0, 0), (0, 1), (1, 1)], [(0, 2), (1, 2), (2, 2)], []]


@pytest.mark.parametrize("form", ["kernels", "products over images", "both", "minibatches"])
def test_an_interrupted_run_keeps_what_it_has(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if form in ("kernels", "products over images"):
        monkeypatch.setattr(hsic, "prefers_gram", lambda *_: form == "kernels")
    name, networks = ("minibatches" if form == "minibatches" else "cka"), zoo(530, *WIDTHS)
    whole = _matrix(networks, name)
    asked = _asked(monkeypatch, "cka_debiased" if form == "minibatches" else "cka")
    put = Memo.put

    def failing(self: Memo, key: str, tensors: dict[str, torch.Tensor]) -> None:
        if len(list(tmp_path.iterdir())) == 4:
            raise KeyboardInterrupt
        put(self, key, tensors)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Memo, "put", failing)
        with pytest.raises(KeyboardInterrupt):
            _matrix(networks, name, kept=Memo(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
    assert torch.equal(_matrix(networks, name, kept=Memo(tmp_path)), whole)
    assert [len(pairs) for pairs in asked] == [6, 2]


def test_a_killed_run_keeps_what_it_has(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, torch; from pathlib import Path; from lib.base.memo import Memo\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "from tests.dery.similarity.naive import params, zoo; from lib.dery.similarity.matrix import matrix\n"
        "class Killed(Memo):\n"
        "    def put(self, key, tensors):\n"
        "        super().put(key, tensors)\n"
        "        if len(list(self.folder.iterdir())) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"matrix(zoo(50, *{WIDTHS}), params('cka'), {MEMORY}, Killed(Path(sys.argv[1])))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[3], check=False)
    assert ended.returncode == -signal.SIGKILL
    left = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(left) == 2
    networks = zoo(50, *WIDTHS)
    assert torch.equal(_matrix(networks, "cka", kept=Memo(tmp_path)), _matrix(networks, "cka"))
    assert len(list(tmp_path.iterdir())) == 6
    assert all(file.read_bytes() == content for file, content in left.items())


def test_what_has_not_been_used_for_longest_goes_first(tmp_path: Path) -> None:
    networks = zoo(50, (3, 4), (5, 6))
    chosen = [params("cka"), params("svcca"), params("cka_rbf")]
    for age, index in enumerate(chosen):
        before = set(tmp_path.iterdir())
        matrix(networks, index, MEMORY, Memo(tmp_path))
        for file in set(tmp_path.iterdir()) - before:
            os.utime(file, (age + 1000, age + 1000))
    oldest, idle, newest = (
        {file for file in tmp_path.iterdir() if file.stat().st_mtime == age + 1000} for age in range(3)
    )
    (tmp_path / ".half written").write_bytes(bytes(10))
    os.utime(tmp_path / ".half written", (0, 0))
    size = max(file.stat().st_size for file in oldest | idle | newest)
    whole = matrix(networks, chosen[0], MEMORY)
    assert torch.equal(matrix(networks, chosen[0], MEMORY, Memo(tmp_path, limit=6 * size)), whole)  # a use
    assert set(tmp_path.iterdir()) == oldest | newest
    assert torch.equal(matrix(networks, chosen[0], MEMORY, Memo(tmp_path, limit=0)), whole)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "exchanged"])
def test_a_damaged_memo_is_noticed_and_mended(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = zoo(50, *WIDTHS)
    whole = _matrix(networks, "cka", kept=Memo(tmp_path))
    first, second = sorted(tmp_path.iterdir())[:2]
    content = bytearray(first.read_bytes())
    content[-3] ^= 16
    damaged = {"flipped": content, "cut": content[:70], "empty": b"", "exchanged": second.read_bytes()}[damage]
    first.write_bytes(damaged)
    asked = _asked(monkeypatch)
    assert torch.equal(_matrix(networks, "cka", kept=Memo(tmp_path)), whole)
    assert len(asked[0]) == 1
    assert torch.equal(_matrix(networks, "cka", kept=Memo(tmp_path)), whole)
    assert asked[1:] == [[]]


def test_other_content_params_threads_and_code_are_other_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = zoo(50, (3, 4))
    kept = Memo(tmp_path)

    def count() -> int:
        return len(list(tmp_path.iterdir()))

    for i, chosen in enumerate(
        [
            params("cka"),
            params("svcca"),
            params("svcca", variance=0.5),
            params("cka_rbf"),
            params("cka_rbf", bandwidth=1.0),
        ]
    ):
        matrix(networks, chosen, MEMORY, kept)
        assert count() == i + 1
    matrix(networks, params("cka", variance=0.5, bandwidth=2.0), MEMORY, kept)  # cka reads neither
    assert count() == 5
    other = network("net0", *networks[0].layers)
    matrix([Network(other.name, "another", other.nodes, other.layers)], params("cka"), MEMORY, kept)
    assert count() == 6
    before = _key()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert _key() != before
    monkeypatch.undo()
    for what in ({"digest": lambda _: "other code"}, {"installed": lambda _: {"numpy": "0", "scipy": "0"}}):
        with monkeypatch.context() as changed:
            memo.made_by.cache_clear()
            changed.setattr(memo, *next(iter(what.items())))
            assert _key() != before
    memo.made_by.cache_clear()
    assert _key() == before


def _key() -> str:
    return memo.key(Path(matrix_module.__file__), "a")


def test_the_same_network_twice(tmp_path: Path) -> None:
    """Two entries of a zoo may be one network under two names."""
    (one,) = zoo(50, (3, 4))
    twin = Network("twin", one.checksum, one.nodes, one.layers)
    found = _matrix([one, twin], "cka", kept=Memo(tmp_path))
    assert torch.equal(found[:2, :2], found[2:, 2:])
    assert torch.equal(found[:2, :2], found[:2, 2:])
    assert len(list(tmp_path.iterdir())) == 1


def test_blocks_in_memory_stay_under_the_limit() -> None:
    for limit in (1, 2**24, 2**26, 2**40):
        sheets = gram.sheets_of(1500, 40, limit)
        assert [block for sheet in sheets for block in sheet] == gram.blocks(1500)
        most = max(len(sheet) for sheet in sheets) * 40 * 4 * gram.ROWS**2
        assert most <= max(limit, 40 * 4 * gram.ROWS**2)


def test_strips_in_memory_stay_under_the_limit() -> None:
    networks = zoo(100, (300, 400, 10, 900, 20, 5), (40,))
    strips = [strip for m in range(2) for strip in covariance.strips_of(networks, m)]
    assert [(s.network, s.start, s.stop) for s in strips] == [(0, 0, 2), (0, 2, 4), (0, 4, 6), (1, 0, 1)]
    for limit in (1, 4 * 100 * 1700, 2**40):
        chunks = list(covariance.chunks_of(strips, limit))
        assert [strip for chunk in chunks for strip in chunk] == strips
        assert all(len(chunk) == 1 or sum(strip.bytes for strip in chunk) <= limit for chunk in chunks)
