"""The tables of the CIFAR-10 benchmark on a zoo of pico networks."""

import json
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.cifar10 import ablation, budgets, families, hybrids, page, predictors, transfer, tree, tuning, work
from benchmarks.cifar10.__main__ import figures
from benchmarks.cifar10.study import NETWORKS, Study, configured
from lib.base import artifacts
from lib.dery.assembly.material import Bricks
from lib.images.data import DataSet
from lib.network.files import save
from lib.params.assembly import Assembly
from tests import pico
from tests.dery.conftest import PARAMS, bricks, images
from tests.dery.partition.partitions import partitioned

__all__ = ["bricks", "images"]


@pytest.fixture
def study(bricks: Bricks, images: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    artifacts.write_text(tmp_path / "params.yaml", work.PARAMS.read_text())
    names = tuple(card.name for card in bricks.cards)
    lengths = [len(chain) for chain in bricks.chains]
    nodes = [
        {"model": name, "node": node.name, "params": node.cost.params, "macs": node.cost.macs}
        for name, chain in zip(names, bricks.chains, strict=True)
        for node in (chain.nodes[i] for i in range(len(chain)))
    ]
    similar = torch.rand(sum(lengths), sum(lengths))
    artifacts.write_tensors(tmp_path / "s" / "similarity.safetensors", {"similarity": (similar + similar.T) / 2})
    artifacts.write_json(tmp_path / "s" / "nodes.json", {"nodes": nodes})
    similarities = {name: [1.0 + m] * 3 for m, name in enumerate(names)}
    partition = partitioned(dict(zip(names, bricks.cuts, strict=True)), similarities)
    found = Study(names, images, Assembly.model_validate(PARAMS), 0, partition, Path("s"), Path("r"), 1)
    for card in bricks.cards:
        save(tmp_path / work.ZOO / card.name, pico.alive(card.architecture.build(trust=True)), card)
    monkeypatch.setattr(tuning, "IMAGES", {"frozen": 8, "full": 8})
    monkeypatch.setattr(hybrids, "CHANCE_IMAGES", 4)
    monkeypatch.setattr(families, "CHANCE_IMAGES", 4)
    monkeypatch.setattr(ablation, "RANDOM_CUTS", 2)
    with chdir(tmp_path):
        yield found


@pytest.mark.parametrize("tune", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_table_is_made_and_the_page_written(study: Study, tune: bool):
    results = {
        1: hybrids.table(study, tune),
        2: predictors.table(study, tune),
        3: budgets.table(study, tune),
        4: ablation.table(study, tune),
        5: families.table(study, tune),
        6: transfer.table(study, tune),
    }
    one, three = results[1].figures, results[3].figures
    assert len(one["networks"]) == 27
    measured = [row["recalibrated"] for row in one["networks"] if row["hybrid"]]
    assert one["recalibrated"]["mean"] == pytest.approx(np.mean(measured))
    untrained = ["without training", "without training, layers refitted"]
    assert list(three) == [*untrained, *(["frozen", "frozen, then full"] if tune else [])]
    for row in three["without training"]["rows"]:
        within = [own for own in one["networks"] if own["hybrid"] and own["params"] <= row["limit"]]
        assert row["best_accuracy"] == max(own["recalibrated"] for own in within)
        assert row["pick_accuracy"] <= row["best_accuracy"]
    last = figures(results)
    assert json.loads(json.dumps(last)) == last
    assert last["regret_points_max"] >= 0
    page.write(Path("docs"), results, 0)
    written = Path("docs/results.md").read_text(), Path("docs/cifar10_budgets.svg").read_text()
    page.write(Path("docs"), results, 0)
    assert written == (Path("docs/results.md").read_text(), Path("docs/cifar10_budgets.svg").read_text())
    assert "## 5. " in written[0]


def test_tuning_is_kept_and_leaves_the_network_as_it_was(study: Study, monkeypatch: pytest.MonkeyPatch):
    networks = study.networks("recalibrated", study.hybrids[:2])
    before = {path: own[0].state_dict()["stitch_1.channels.weight"].clone() for path, own in networks.items()}
    first = tuning.tuned(study, networks, ["frozen"])
    monkeypatch.setattr(tuning.fit, "fit", None)
    again = tuning.tuned(study, networks, ["frozen"])
    for path, (network, _) in networks.items():
        assert (first[path] == again[path]).all()
        assert torch.equal(network.state_dict()["stitch_1.channels.weight"], before[path])


def test_refitted_networks_are_kept(study: Study):
    path = study.hybrids[0]
    made = tree.reassembled(configured(study.bricks, "layers"), [path])
    first = study.networks("layers", [path])
    (folder,) = NETWORKS.iterdir()
    stored = (folder / "recipe.json").stat().st_mtime_ns
    again = replace(study, _made={}).networks("layers", [path])
    assert tree.content(*made[path]) == tree.content(*first[path]) == tree.content(*again[path])
    assert (folder / "recipe.json").stat().st_mtime_ns == stored
