"""The three stages in one process, on a few real digits and pico networks."""

from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.mda.components import component as lib_component
from lib.network import files
from lib.network.assembled import Assembled
from lib.network.component import Component
from lib.network.load import load
from stages import components, contributions, dataset, lego, zoo

FACTORY = Path(__file__).parents[2] / "data/models/plain_cnn.py"
PARAMS = """
run: {seed: 0, threads: 1}
dataset: {source: digits, path: data, name: null, image_size: 8, validation: 0.1, test: 0.3, probe_images: 8}
zoo:
  training: {epochs: 6, batch_size: 64, learning_rate: 1.0e-2, weight_decay: 0.05, warmup: 0.1, label_smoothing: 0.1}
  models:
    low: {factory: "FILE:plain_cnn", kwargs: {widths: [[12], [12]]}, weights: train, classes: 0-4, input_size: 8}
    high: {factory: "FILE:plain_cnn", kwargs: {widths: [[12], [12]]}, weights: train, classes: 5-9, input_size: 8}
    every: {factory: "FILE:plain_cnn", kwargs: {widths: [[16], [16]]}, weights: train, input_size: 8}
contributions:
  models: [low, high, every]
  images_per_class: 20
  conv: {alpha: 0.3, beta: 0.2}
  linear: {alpha: 0.4, beta: 0.3}
  batch_size: 64
components:
  tasks:
    few: {model: low, classes: "1,3"}
    one: {model: low, classes: "0"}
    upper: {model: high, classes: 5-9}
  size: null
  repair: {}
lego: {components: [upper, few], scaling: winning_score, scaling_images_per_class: 20}
"""


def test_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = PARAMS.replace("FILE", str(FACTORY))
    Path("params.yaml").write_text(params)
    dataset.main(Path("dataset"), Path("dataset.json"))
    for model in ("low", "high", "every"):
        zoo.main(Path("dataset"), model, Path("zoo", model), Path("m.json"), Path("c.json"))
        out = Path("contributions", model)
        contributions.main(Path("dataset"), Path("zoo", model), model, out, Path(f"{model}.json"))
    masks = artifacts.read_tensors(Path("contributions/low/masks.safetensors"))
    assert masks["0.0"].shape == (5, 12)
    assert masks["0.0"].any(1).all()
    table = pandas.read_csv("contributions/low/kept.csv")
    assert list(table.columns) == ["class", "layer", "channels", "kept"]
    assert len(table) == 10
    assert 0 < artifacts.read_metrics(Path("low.json"))["overall"] < 1

    Path("zoo/removed").mkdir()
    found = {}
    for task in ("few", "one", "upper"):
        places = Path("zoo"), Path("contributions"), task, Path("components", task)
        components.main(Path("dataset"), *places, Path("component.json"))
        found[task] = artifacts.read_metrics(Path("component.json"))
    assert found["few"]["accuracy"]["source_restricted"] > 80
    assert found["few"]["share"] < 1
    assert set(found["one"]["auroc"]) == {"source_all", "source_restricted", "component"}

    lego.main(Path("dataset"), Path("zoo"), Path("contributions"), Path("components"), Path("lego"), Path("lego.json"))
    assert not Path("zoo/removed").exists()
    _, recipe = files.load_as(Assembled, Path("lego/network"), trust=True)
    assert recipe.classes == ("5", "6", "7", "8", "9", "1", "3")
    assert recipe.scaling.factors != (1.0,) * 7
    assert recipe.scaling.offsets == (0.0,) * 7
    result = artifacts.read_metrics(Path("lego.json"))
    assert result["accuracy"]["sources"] > 50
    assert (result["params"], result["macs"]) == (result["parts_params"], result["parts_macs"])
    assert set(result["scalings"]["validation"]) == {"none", "winning_score", "temperature", "affine"}
    assert result["scalings"]["test"]["winning_score"] == result["accuracy"]["scaled"]
    assert result["accuracy"]["mean_component"] == pytest.approx(
        (found["few"]["accuracy"]["component"] + found["upper"]["accuracy"]["component"]) / 2
    )
    _, few = files.load_as(Component, Path("components/few"), trust=True)
    assert few.classes == ("1", "3")
    assert few.source.name == "low"

    Path("params.yaml").write_text(params.replace("scaling: winning_score", "form: padded, scaling: affine"))
    lego.main(
        Path("dataset"), Path("zoo"), Path("contributions"), Path("components"), Path("padded"), Path("padded.json")
    )
    padded = artifacts.read_metrics(Path("padded.json"))
    assert padded["params"] > padded["parts_params"]
    assert padded["scalings"] == result["scalings"]
    network, opened = load(Path("padded/network"), trust=True)
    assert opened.classes == recipe.classes
    assert network(torch.zeros(1, *opened.input.shape)).shape == (1, 7)

    how = "{epochs: 2, batch_size: 64, learning_rate: 1.0e-3, weight_decay: 0, warmup: 0, label_smoothing: 0}"
    Path("params.yaml").write_text(params.replace("scaling: winning_score", f"tuning: {how}, scaling: winning_score"))
    lego.main(Path("dataset"), Path("zoo"), Path("contributions"), Path("components"), Path("tuned"), Path("t.json"))
    tuned = artifacts.read_metrics(Path("t.json"))
    assert tuned["accuracy"] == result["accuracy"]
    assert tuned["tuned"]["test"] > result["accuracy"]["scaled"]
    network, recipe = files.load_as(Assembled, Path("tuned/network"), trust=True)
    untuned, _ = files.load_as(Assembled, Path("lego/network"), trust=True)
    assert not torch.equal(network(torch.ones(1, 3, 8, 8)), untuned(torch.ones(1, 3, 8, 8)))
    norms = {name: value for name, value in untuned.state_dict().items() if "running" in name}
    assert norms
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in norms.items())

    chosen = "choose: {classes: '0-3,6,7', models: [low, high, every], budget: {params: 8000}}"
    Path("params.yaml").write_text(params.replace("components: [upper, few]", chosen))
    repair, calls = lib_component.repair, list[int]()

    def interrupted(*args: Any) -> nn.Module:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return repair(*args)

    monkeypatch.setattr(lib_component, "repair", interrupted)
    ways = [Path("dataset"), Path("zoo"), Path("contributions"), Path("components"), Path("chosen"), Path("ch.json")]
    with pytest.raises(KeyboardInterrupt):
        lego.main(*ways)
    lego.main(*ways)
    found = artifacts.read_metrics(Path("ch.json"))
    assert sorted(len(own["tasks"]) for own in found["tried"]) == [1, 2, 3]
    assert len(calls) == 1 + len({task for own in found["tried"] for task in map(str, own["tasks"].items())})
    best = max(found["tried"], key=lambda own: own["validation_accuracy"])
    assert found["tried"][0] == best == {key: found[key] for key in best}
    assert found["params"] == found["parts_params"] <= 8000
    assert found["whole"]["name"] == "every"
    assert found["whole"]["test_accuracy"] > 50
    assert found["validation_accuracy"] == found["scalings"]["validation"]["winning_score"] > 50
    Path("params.yaml").write_text(params.replace("components: [upper, few]", chosen.replace("8000", "40")))
    with pytest.raises(BrickyardError, match=r"lego\.choose\.budget: .* within params = 40 .*raise it"):
        lego.main(Path("dataset"), Path("zoo"), Path("contributions"), Path("components"), Path("no"), Path("no.json"))

    _chosen_at_a_size(params)

    Path("params.yaml").write_text(params.replace('"1,3"', '"1,7"'))
    with pytest.raises(BrickyardError, match=r"components\.tasks\.few: low does not know class '7'"):
        components.main(Path("dataset"), Path("zoo"), Path("contributions"), "few", Path("again"), Path("a.json"))


def _chosen_at_a_size(params: str) -> None:
    """The components of a choice have the size that is asked for, and are those of stage `components`."""
    sized = params.replace("size: null", "size: {params: 0.4}").replace("scaling: winning_score", "scaling: none")
    chosen = "choose: {classes: '0-3,6,7', models: [low, high, every], budget: {params: 1200}}"
    Path("params.yaml").write_text(sized.replace("components: [upper, few]", chosen))
    places = Path("dataset"), Path("zoo"), Path("contributions")
    lego.main(*places, Path("components"), Path("chosen"), Path("ch.json"))
    found = artifacts.read_metrics(Path("ch.json"))
    network, recipe = files.load_as(Assembled, Path("chosen/network"), trust=True)
    branches = network.get_submodule("branches").children()
    total = 0
    for (model, own), branch in zip(found["tasks"].items(), branches, strict=True):
        task = f'{{model: {model}, classes: "{",".join(own)}"}}'
        Path("params.yaml").write_text(sized.replace('{model: low, classes: "1,3"}', task))
        components.main(*places, "few", Path("alone"), Path("alone.json"))
        alone, its = files.load_as(Component, Path("alone"), trust=True)
        same, part = alone.state_dict(), recipe.parts[model]
        assert all(torch.equal(weight, same[name]) for name, weight in branch.state_dict().items())
        assert (its.kept, its.classes, its.cost) == (part.kept, part.classes, part.cost)
        assert artifacts.read_metrics(Path("alone.json"))["share"] == pytest.approx(0.4, rel=0.1)
        total += its.cost.params
    assert found["params"] == total <= 1200
    assert all(own["params"] <= 1200 for own in found["tried"])
