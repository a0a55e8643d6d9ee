"""The MDA benchmark: its own logic on pico networks, and all of its tables on digits."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from benchmarks import workplace
from benchmarks.mda import (
    assemblies,
    choices,
    controls,
    disassembly,
    forms,
    fpgm,
    lab,
    page,
    routes,
    tasks,
    work,
    workers,
)
from benchmarks.mda.__main__ import TABLES, figures
from benchmarks.mda.lab import Lab
from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.mda.contributions.contribution import contributions
from lib.params.base import read
from lib.params.components import Repair
from lib.trace import graph
from tests.mda import networks, pico

NAMES = ("vgg_a", "vgg_b", "resnet20")
PLAIN = {"factory": f"{workplace.ROOT}/data/models/plain_cnn.py:plain_cnn", "kwargs": {"widths": [[10], [12]]}}
RESNET = {"factory": f"{workplace.ROOT}/data/models/cifar_resnet.py:cifar_resnet", "kwargs": {"depth": 8}}


@pytest.mark.parametrize("build", [networks.Dense, networks.Excited, pico.plain])
def test_materialised_contributions_are_the_definition(build: Any):
    torch.manual_seed(0)
    model = build().eval()
    shape = pico.SHAPE if build is pico.plain else networks.SHAPE
    coupling = couple(graph.trace(model, "m", shape), "m")
    layers = [layer for layer in coupling.layers if layer.groups == 1]
    batch = [(torch.randn(3, *shape), torch.zeros(3))]
    ours, theirs = (run(model, layers, batch) for run in (contributions, forms.materialised))
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values.detach(), rtol=1e-4, atol=1e-5)


def test_peak_is_what_is_alive_at_once():
    def run() -> None:
        first = torch.ones(1000, dtype=torch.float64)
        del first
        second = torch.ones(3000, dtype=torch.float64)
        third = torch.ones(500, dtype=torch.float64)
        del second, third

    assert forms.peak(run) == pytest.approx(8 * 3500, abs=512)


def test_filters_near_the_others_are_the_least_important():
    model = pico.plain()
    coupling = couple(graph.trace(model, "m", pico.SHAPE), "m")
    found = fpgm.importance(model, coupling)
    layer = coupling.layers[1]
    weight = model.get_submodule(layer.name).get_parameter("weight").detach().flatten(1).square().double()
    naive = [sum(float((a - b).norm()) for b in weight) for a in weight]
    assert found[list(layer.outputs)].tolist() == pytest.approx(naive, rel=1e-4)


def test_checkpoints_that_are_missing_are_replaced_by_training(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet20-12fca82f.th").touch()
    context, said = work.enter(tmp_path / "work", tmp_path / "images", tmp_path / "checkpoints", quick=True)
    assert [line.split(":")[0] for line in said] == ["vgg_a", "vgg_b"]
    with context:
        models = YAML(typ="safe").load(Path("params.yaml"))["zoo"]["models"]
        assert models["vgg_a"]["weights"] == "train"
        assert models["vgg_a"]["training"] == {"epochs": work.EPOCHS}
        assert models["resnet20"]["weights"] == "checkpoints/resnet20.th"
        assert Path("checkpoints/resnet20.th").exists()
    context, said = work.enter(tmp_path / "work", tmp_path / "none", tmp_path / "checkpoints")
    assert "digits" in said[0]
    with context:
        document = YAML(typ="safe").load(Path("params.yaml"))
        assert document["dataset"]["source"] == "digits"
        assert {model["weights"] for model in document["zoo"]["models"].values()} == {"train"}


def test_a_folder_that_is_named_but_empty_of_images_is_refused(tmp_path: Path):
    with pytest.raises(BrickyardError, match="no-such-place not found: name the place with --data"):
        workplace.enter(tmp_path, "", {"data/cifar10": tmp_path / "no-such-place"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with digits of 8 pixels and tiny networks under the names of the real ones."""
    folder = tmp_path_factory.mktemp("mda")
    document = YAML(typ="safe").load(work.PARAMS)
    document["dataset"] |= {"source": "digits", "path": "data", "image_size": 8, "test": 0.2, "probe_images": 8}
    document["zoo"]["training"] |= {"epochs": 8, "learning_rate": 1e-2}
    document["zoo"]["training"]["augmentation"] = {"crop_padding": 0, "flip": False}
    shared = {"weights": "train", "input_size": 8}
    document["zoo"]["models"] = {name: {**PLAIN, **shared} for name in NAMES[:2]} | {"resnet20": {**RESNET, **shared}}
    document["contributions"] |= {"models": [*NAMES[:2], "resnet20"], "images_per_class": 10}
    document["components"]["repair"]["images"] = 100
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(document, file)
    return folder


@pytest.fixture
def small(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(lab, "VALIDATION", 100)
    monkeypatch.setattr(assemblies, "TUNED_ON", 60)
    monkeypatch.setattr(routes, "NETWORKS", NAMES[1:])
    for module in (disassembly, choices, controls):
        monkeypatch.setattr(module, "TASKS", {"0-2": (0, 1, 2)})
    monkeypatch.setattr(controls, "ON", ("0-2",))
    monkeypatch.setattr(choices, "ON", ("0-2",))
    with chdir(place):
        yield Lab()


def test_components_are_measured_beside_their_source(small: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disassembly, "SINGLE", (3,))
    result = disassembly.table(small, NAMES[:1])
    (row,) = result.figures["rows"]
    source, classes = small.source("vgg_a"), [0, 1, 2]
    part = source.component(classes, lab.Way(read("components.repair", Repair), size=1 / 2))
    x, y = small.loader(source.card.input, small.images.test).all()
    own = y < 3
    with torch.no_grad():
        right = [part.module(x[own]).argmax(1) == y[own], source.module(x[own])[:, :3].argmax(1) == y[own]]
    assert [row["half"], row["restricted"]] == pytest.approx([100 * r.double().mean().item() for r in right])
    assert row["restricted"] >= row["all_classes"]
    assert row["share"]["third"] < row["share"]["half"] < row["share"]["official"] < 1
    assert row["official"] > 60
    assert row["share"]["half"] == pytest.approx(row["share"]["official"] / 2, rel=0.1)
    last = figures({1: result})
    assert last["gap_half_vgg"] == pytest.approx(row["restricted"] - row["half"], abs=0.01)
    assert last["assembly_gap_two"] is None
    (single,) = result.figures["single"]
    assert single["repaired"] > 0.5
    monkeypatch.setattr(lab.Source, "_made", None)  # everything comes from the work folder
    assert disassembly.table(Lab(), NAMES[:1]) == result


@pytest.mark.slow
def test_every_table_is_made_and_the_page_written(small: Lab, monkeypatch: pytest.MonkeyPatch):
    results = {number: make(small, NAMES, True) for number, make in TABLES.items()}
    rows = results[1].figures["rows"]
    assert [row["source"] for row in rows] == list(NAMES)
    two = results[2].figures["rows"]
    assert [row["name"] for row in two] == ["halves", "even + odd", "3 + 7", "two architectures", "three networks"]
    last = figures(results)
    assert json.loads(json.dumps(last)) == last
    assert last["gap_official_max"] == pytest.approx(max(r["restricted"] - r["official"] for r in rows), abs=0.01)
    assert last["assembly_gap_three"] == pytest.approx(assemblies.gap(two[-1], "affine"), abs=0.01)
    assert last["parallel_overhead"] == 1.0
    assert last["padded_parallel_logit_diff"] < 1e-5
    assert all(row["difference"] < 1e-5 for row in results[4].figures["contributions"])
    assert results[5].figures["rows"][-1]["best"]["test"] > 50
    page.write(Path("docs"), results, small)
    written = [Path("docs", name).read_text() for name in ("results.md", page.PICTURE)]
    monkeypatch.setattr(lab.Source, "_made", None)  # everything comes from the work folder
    again = Lab()
    page.write(
        Path("docs"), {number: make(again, NAMES, True) for number, make in TABLES.items() if number != 4}, again
    )
    assert Path("docs", page.PICTURE).read_text() == written[1]
    assert all(line in written[0] for line in Path("docs/results.md").read_text().splitlines())


def test_assembled_answers_are_those_of_the_assembly(small: Lab):
    assembly = assemblies.ASSEMBLIES[0]
    parts = assemblies.components_of(small, assembly, read("components.repair", Repair))
    logits, labels = assemblies.answers(small, parts, "test")
    network, recipe = assemblies.assembled(parts, "parallel")
    torch.testing.assert_close(small.answers(network, recipe, "test"), logits, rtol=1e-4, atol=1e-4)
    names = [small.names[c] for c in small.labels("test").tolist()]
    assert [recipe.classes[label] for label in labels.tolist()] == names


def test_single_classes_are_told_by_their_logit(small: Lab):
    source = small.source("vgg_a")
    component = source.component([3], lab.Way(read("components.repair", Repair)))
    probability, logit, own = tasks.auroc(small, component, source, 3)
    assert min(probability, logit) > 0.9
    assert 0 <= own <= 1


def test_training_on_few_images_leaves_the_others_alone(small: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "FEW", 50)
    folder = work.training_images(few=True)
    found = Lab().images
    card = artifacts.read_json(folder / "card.json")
    assert sum(card["counts"]["train"].values()) == 50
    assert sum(card["counts"]["test"].values()) == len(found.test)


def test_components_made_side_by_side_are_those_made_alone(small: Lab, monkeypatch: pytest.MonkeyPatch):
    way = lab.Way(read("components.repair", Repair), size=0.6)
    wanted = [lab.Wanted(name, (0, 4), way) for name in NAMES[:2]]
    workers.make(small, wanted, 1)
    folders = [small.source(one.source).folder(one.classes, one.way) for one in wanted]
    assert not any(folder.exists() for folder in folders)  # alone, when they are asked for
    workers.make(small, [*wanted, *wanted], 2)
    assert all((folder / lab.MADE).exists() for folder in folders)
    found = small.source("vgg_b").component((0, 4), way)
    shutil.rmtree(folders[1])
    assert artifacts.tensor_checksum(found.module.state_dict()) == artifacts.tensor_checksum(
        Lab().source("vgg_b").component((0, 4), way).module.state_dict()
    )
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)  # nothing is missing
    workers.make(small, wanted, 2)


def test_a_component_that_cannot_be_made_says_why(small: Lab):
    way = lab.Way(read("components.repair", Repair), size=1e-9)
    with pytest.raises(BrickyardError, match="vgg_a"):
        workers.make(small, [lab.Wanted("vgg_a", (0, 1), way)], 2)


def test_contributions_from_few_images_are_kept_apart(small: Lab):
    few = Lab(few=300)
    whole, own = small.source("vgg_b"), few.source("vgg_b")
    assert len(few.train) == 300
    assert all(np.isin(chosen, few.train).all() for chosen in own.selected)
    assert not all(np.isin(chosen, few.train).all() for chosen in whole.selected)
    way = lab.Way(disassembly.NONE)
    assert own.folder((0, 1), way) != whole.folder((0, 1), way)
    assert len(Lab(few=10**6).train) == len(small.images.train)
