"""The logic of studies/mda on pico networks, and components of networks that are trained on digits."""

import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import mda as quick
from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.images import data
from lib.mda.contributions.contribution import contributions
from lib.params.base import read
from lib.params.components import Repair
from lib.trace import graph
from studies.mda import assemblies, budgets, disassembly, forms, fpgm, hrank, lab, materialised, sources, tasks
from studies.mda.lab import Lab
from tests.mda import networks, pico
from tests.studies.conftest import run_all

NAMES = ("vgg_a", "vgg_b", "resnet20")
FOLDERS = (Path("artifacts/dataset"), Path("artifacts/zoo"), Path("artifacts/sources"))


@pytest.mark.parametrize("build", [networks.Dense, networks.Excited, pico.plain])
def test_materialised_contributions_are_the_definition(build: Any):
    torch.manual_seed(0)
    model = build().eval()
    shape = pico.SHAPE if build is pico.plain else networks.SHAPE
    coupling = couple(graph.trace(model, "m", shape), "m")
    layers = [layer for layer in coupling.layers if layer.groups == 1]
    batch = [(torch.randn(3, *shape), torch.zeros(3, dtype=torch.int64))]
    ours, theirs = (run(model, layers, batch) for run in (contributions, materialised.materialised))
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


def test_channels_with_maps_of_low_rank_are_the_least_important():
    """On what enters each layer of a plain network, and of one whose stream is read twice."""
    model = pico.plain()
    coupling = couple(graph.trace(model, "m", pico.SHAPE), "m")
    x = pico.images(5)
    found = hrank.importance(
        model, coupling, [(part, torch.zeros(len(part), dtype=torch.int64)) for part in x.split(3)]
    )
    with torch.no_grad():
        first, second, third = model[0](x), model[:4](x), model[:9](x)
    maps = [*first.numpy().swapaxes(0, 1), *second.numpy().swapaxes(0, 1), *third.numpy().T[:, :, None, None]]
    naive = [np.mean([np.linalg.matrix_rank(one) for one in own]) for own in maps]
    made = [channel for layer in coupling.layers[:-1] for channel in layer.outputs]
    assert found[made].tolist() == pytest.approx(naive)
    assert {0, 1, 2, 6} <= set(found[made].tolist())  # 0: units that are off
    assert found[list(coupling.classifier.outputs)].tolist() == [0, 0, 0]
    assert not any(module._forward_pre_hooks for module in model.modules())
    stream = networks.Dense().eval()
    coupling, x = couple(graph.trace(stream, "m", networks.SHAPE), "m"), torch.randn(4, *networks.SHAPE)
    found = hrank.importance(stream, coupling, [(x, torch.zeros(4, dtype=torch.int64))])
    with torch.no_grad():
        stem = stream.stem(x)
        rest = [stream.convs[0](F.relu(stream.norms[0](stem)))]
        rest.append(stream.convs[1](F.relu(stream.norms[1](torch.cat([stem, *rest], 1)))))
        rest.append(stream.convs[2](F.relu(stream.norms[2](torch.cat([stem, *rest], 1)))))
        read = [F.relu(norm(torch.cat([stem, *rest[:i]], 1)))[:, 1] for i, norm in enumerate(stream.norms)]
        read.append(F.relu(stream.norm(torch.cat([stem, *rest], 1))).mean((2, 3), keepdim=True)[:, 1])
    ranks = [np.linalg.matrix_rank(one) for maps in read for one in maps.numpy()]
    assert float(found[coupling.layers[0].outputs[1]]) == pytest.approx(np.mean(ranks))


def test_checkpoints_that_are_missing_are_replaced_by_training(tmp_path: Path):
    images, shelf = tmp_path / "images", tmp_path / "checkpoints"
    images.mkdir()
    shelf.mkdir()
    (shelf / "resnet20-12fca82f.th").touch()
    params, said = quick.document(images, shelf)
    assert [line.split(":")[0] for line in said] == ["vgg_a", "vgg_b"]
    models = params["zoo"]["models"]
    assert models["vgg_a"]["weights"] == "train"
    assert models["vgg_a"]["training"] == {"epochs": quick.EPOCHS}
    assert models["resnet20"]["weights"] == str((shelf / "resnet20-12fca82f.th").resolve())
    params, said = quick.document(tmp_path / "none", shelf)
    assert "digits" in said[0]
    assert params["dataset"]["source"] == "digits"
    assert {model["weights"] for model in params["zoo"]["models"].values()} == {"train"}


@pytest.fixture
def small(mda: Path) -> Iterator[Lab]:
    """The study's lab, with what its stages leave of three networks."""
    for name in NAMES:
        if not (mda / FOLDERS[2] / name).exists():
            run_all(mda, f"sources@{name}")
    with chdir(mda):
        yield Lab(*FOLDERS)


def test_components_are_measured_beside_their_source(small: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disassembly, "TASKS", {"0-2": (0, 1, 2)})
    found = disassembly.found(small, "vgg_b", full=False)
    source, classes = small.source("vgg_b"), [0, 1, 2]
    part = source.component(classes, lab.Way(read("components.repair", Repair), size=1 / 2))
    (row,) = found["rows"]
    x, y = small.loader(source.card.input, small.images.test).all()
    own = y < 3
    with torch.no_grad():
        right = [part.module(x[own]).argmax(1) == y[own], source.module(x[own])[:, :3].argmax(1) == y[own]]
    assert [row["half"], row["restricted"]] == pytest.approx([100 * r.double().mean().item() for r in right])
    assert row["restricted"] >= row["all_classes"]
    assert row["share"]["half"] < row["share"]["official"] < 1
    assert row["official"] > 50
    assert row["share"]["half"] == pytest.approx(row["share"]["official"] / 2, rel=0.15)
    (single,) = found["single"]
    assert single["repaired"] > 0.5
    gaps = disassembly.result({"vgg_b": found}).figures["gaps"]
    assert gaps["official"]["vgg"]["gap"] == row["restricted"] - row["official"]


def test_a_component_is_made_once(small: Lab):
    way = lab.Way(read("components.repair", Repair))
    assert small.source("vgg_a").component((0, 1), way) is small.source("vgg_a").component([0, 1], way)
    other = lab.Way(read("components.repair", Repair), size=0.9)
    assert small.source("vgg_a").component((0, 1), other) is not small.source("vgg_a").component([0, 1], way)


def test_assembled_answers_are_those_of_the_assembly(small: Lab):
    assembly = small.study.assemblies["halves"]
    parts = assemblies.components_of(small, assembly, read("components.repair", Repair))
    logits, labels = assemblies.answers(small, parts, "test")
    network, recipe = assemblies.assembled(parts, "parallel")
    torch.testing.assert_close(small.answers(network, recipe.input, "test"), logits, rtol=1e-4, atol=1e-4)
    names = [small.names[c] for c in small.labels("test").tolist()]
    assert [recipe.classes[label] for label in labels.tolist()] == names


def test_single_classes_are_told_by_their_logit(small: Lab):
    source = small.source("vgg_a")
    component = source.component([3], lab.Way(read("components.repair", Repair)))
    probability, logit, own = tasks.auroc(small, component, source, 3)
    assert min(probability, logit) > 0.8
    assert 0 <= own <= 1


def test_logits_of_a_source_are_those_of_the_network(small: Lab):
    source = small.source("resnet20")
    x, y = small.loader(source.card.input, small.images.test).all()
    with torch.no_grad():
        torch.testing.assert_close(source.answers("test"), source.module(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(source.answers("test", [2]), source.module(x[y == 2]), rtol=1e-5, atol=1e-5)


def test_images_for_contributions_may_be_selected_among_few(
    small: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    few = small.study.model_copy(update={"select_images": 100})
    monkeypatch.setattr(lab, "read", lambda key, kind: few if key == "study" else read(key, kind))
    sources.main("vgg_b", *FOLDERS[:2], tmp_path)
    own = np.concatenate(Lab(*FOLDERS[:2], tmp_path).source("vgg_b").selected)
    among = data.stratified_sample(small.images.images, small.images.train, 100, small.seed)
    assert np.isin(own, among).all()
    assert not np.isin(np.concatenate(small.source("vgg_b").selected), among).all()


def test_a_component_that_cannot_be_made_says_why(small: Lab):
    way = lab.Way(read("components.repair", Repair), size=1e-9)
    with pytest.raises(BrickyardError, match="vgg_a"):
        small.source("vgg_a").component((0, 1), way)


def test_what_is_predicted_and_what_is_measured_are_of_other_images(small: Lab):
    names = ("vgg_a", "vgg_b")
    chooser = budgets.Chooser(small, names)
    predicts, measures = ({*chooser.rows[name].tolist()} for name in ("predicted", "measured"))
    assert not predicts & measures
    assert predicts | measures == {*range(len(small.splits["test"]))}
    found = chooser.chosen(None)
    best = found["best"]
    assert best["validation"] == max(one["validation"] for one in found["tried"])
    both = len(predicts) * best["predicted"] + len(measures) * best["measured"]
    assert best["test"] == pytest.approx(both / len(predicts | measures))
    cheapest = min(one["params"] for one in found["tried"])
    errors = [abs(budgets.error(chooser.chosen(limit)["best"])) for limit in (None, cheapest)]
    assert budgets.largest_error(small, names, (None, cheapest)) == max(errors)


@pytest.mark.slow
def test_the_last_line_is_of_the_tables(small: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disassembly, "TASKS", {"0-2": (0, 1, 2)})
    results = {
        "disassembly": disassembly.result({name: disassembly.found(small, name, full=False) for name in NAMES}),
        "assemblies": assemblies.result(
            {name: assemblies.found(small, name, NAMES, tune=False) for name in quick.ASSEMBLIES}
        ),
        "forms": forms.result({name: forms.found(small, name) for name in NAMES}),
    }
    last = quick.figures(results)
    assert json.loads(json.dumps(last)) == last
    rows = results["disassembly"].figures["rows"]
    assert last["gap_official_max"] == pytest.approx(max(r["restricted"] - r["official"] for r in rows), abs=0.01)
    assert last["parallel_overhead"] == 1.0
    assert last["padded_parallel_logit_diff"] < 1e-5
    assert all(row["difference"] < 1e-5 for row in results["forms"].figures["contributions"])
