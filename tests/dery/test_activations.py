"""Activations: rows of the right images, averaged as said, written as they come."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.chain.layout import Layout
from lib.dery import activations, recording
from lib.images.data import Batch
from tests import pico

NETWORKS = {"cnn": pico.PicoResNet, "vit": pico.PicoViT, "inception": pico.PicoInception}


def _chain(kind: str = "cnn", name: str = "net") -> Chain:
    return Chain(name, pico.alive(NETWORKS[kind]()), pico.IMAGE)


def _images(n: int) -> torch.Tensor:
    return torch.rand(n, *pico.IMAGE)


def _batches(x: torch.Tensor, size: int = 4) -> Iterator[Batch]:
    return ((part, torch.zeros(len(part), dtype=torch.int64)) for part in x.split(size))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("grid", [1, 3])
def test_rows_are_means_over_cells_of_what_leaves_each_node(kind: str, grid: int, tmp_path: Path) -> None:
    chain, x, ids = _chain(kind), _images(10), np.arange(10)[::-1].copy()
    recording.record(tmp_path / "net", chain, _batches(x), ids, grid)
    (found,) = activations.load(tmp_path, ["net"])
    assert found.images.tolist() == ids.tolist()
    assert [node["name"] for node in found.nodes] == [node.name for node in chain.nodes]
    assert [node["macs"] for node in found.nodes] == [node.cost.macs for node in chain.nodes]
    with torch.no_grad():
        for i, layer in enumerate(found.layers):
            maps = chain.nodes[i].output.to_map(chain[0 : i + 1](x))
            side = min(grid, maps.shape[-1])
            cells = [
                maps[:, :, _cell(a, side, maps.shape[2])][..., _cell(b, side, maps.shape[3])].mean((2, 3))
                for a in range(side)
                for b in range(side)
            ]
            assert torch.allclose(layer, torch.stack(cells, 2).flatten(1), atol=1e-6)


def _cell(i: int, cells: int, length: int) -> slice:
    return slice(i * length // cells, -(-(i + 1) * length // cells))


def test_a_cell_is_a_pixel_at_least() -> None:
    layout = Layout("nchw", 3, 2, 2)
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(recording.pooled(layout, x, 5), x.flatten(1))
    assert recording.pooled(Layout("pooled", 7), torch.randn(4, 7), 5).shape == (4, 7)


def test_bfloat16_is_what_float32_rounds_to(tmp_path: Path) -> None:
    chain, x = _chain(), _images(6)
    recording.record(tmp_path / "wide", chain, _batches(x), np.arange(6))
    recording.record(tmp_path / "narrow", chain, _batches(x), np.arange(6), dtype=torch.bfloat16)
    wide, narrow = activations.load(tmp_path, ["wide", "narrow"])
    for a, b in zip(wide.layers, narrow.layers, strict=True):
        assert b.dtype == torch.bfloat16
        assert torch.equal(a.bfloat16(), b)


def test_bytes_do_not_depend_on_the_run_and_the_checksum_is_that_of_the_tensors(tmp_path: Path) -> None:
    chain, x = _chain(), _images(6)
    for name in "ab":
        recording.record(tmp_path / name, chain, _batches(x), np.arange(6))
    files = [tmp_path / name / "activations.safetensors" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    (found,) = activations.load(tmp_path, ["a"])
    assert found.checksum == artifacts.tensor_checksum(artifacts.read_tensors(files[0]))


def test_other_images_or_another_order_are_refused(tmp_path: Path) -> None:
    x = _images(6)
    others = {"b": [1, 0, 2, 3, 4, 5], "c": [0, 1, 2, 3, 4, 6], "d": [0, 1, 2, 3, 4]}
    recording.record(tmp_path / "a", _chain(name="a"), _batches(x), np.arange(6))
    for name, ids in others.items():
        recording.record(tmp_path / name, _chain(name=name), _batches(x[: len(ids)]), np.array(ids))
        with pytest.raises(BrickyardError, match=f"activations of {name} belong to other images than those of a"):
            activations.load(tmp_path, ["a", name])


@pytest.mark.parametrize(("images", "message"), [(5, "has 5 rows; 6 were promised"), (7, "do not fit after 0")])
def test_another_number_of_images_than_ids_is_refused(images: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match=message):
        recording.record(tmp_path, _chain(), _batches(_images(images)), np.arange(6))
    assert [file.name for file in tmp_path.iterdir()] == ["chain.json"]


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    model = pico.alive(pico.PicoResNet())
    chain = Chain("broken", model, pico.IMAGE)
    layer = model.get_submodule("stages.1.0.bn2")
    assert isinstance(layer, nn.BatchNorm2d)
    layer.bias.data[0] = torch.nan
    with pytest.raises(BrickyardError, match=r"broken: activations of node stages\.1\.0 are not finite"):
        recording.record(tmp_path, chain, _batches(_images(4)), np.arange(4))
    assert not (tmp_path / "activations.safetensors").exists()


def test_layers_that_do_not_belong_to_the_chain_are_refused(tmp_path: Path) -> None:
    recording.record(tmp_path / "a", _chain(), _batches(_images(4)), np.arange(4))
    stored = artifacts.read_json(tmp_path / "a" / "chain.json")
    artifacts.write_json(tmp_path / "a" / "chain.json", {**stored, "nodes": stored["nodes"][1:]})
    with pytest.raises(BrickyardError, match=r"activations\.safetensors: \d layers, but \d nodes in chain\.json"):
        activations.load(tmp_path, ["a"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the images, written, verified and mapped: as much memory, though the file is larger by far."""
    monkeypatch.setattr(recording, "BUFFER", 2**20)
    chain = Chain("net", pico.alive(pico.PicoResNet(width=96)), pico.IMAGE)
    peaks: dict[int, int] = {}
    sizes: dict[int, int] = {}

    def made(n: int) -> Iterator[Batch]:
        for _ in range(n // 64):
            peaks[n] = max(peaks.get(n, 0), _anonymous())
            yield torch.rand(64, *pico.IMAGE), torch.zeros(64)

    for n in (256, 2048):
        recording.record(tmp_path / "net", chain, made(n), np.arange(n), grid=4)
        (found,) = activations.load(tmp_path, ["net"])
        peaks[n] = max(peaks[n], _anonymous())
        sizes[n] = sum(layer.nbytes for layer in found.layers)
    grown = sizes[2048] - sizes[256]
    assert grown > 40 * 2**20
    assert peaks[2048] - peaks[256] < grown / 5


def _anonymous() -> int:
    """Bytes of this process's memory that are not mapped from files."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
