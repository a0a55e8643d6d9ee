"""The three stages in one process, on a few real digits and pico networks."""

from contextlib import chdir
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


DATA = Path("dataset"), Path("zoo"), Path("contributions")
ALL = (*DATA, Path("components"))
LEGO = "components: [upper, few]"
CHOSEN = "choose: {classes: '0-3,6,7', models: [low, high, every], budget: {params: 8000}}"


def _params(*changes: tuple[str, str]) -> None:
    """Writes params.yaml; changes: old and new text."""
    text = PARAMS.replace("FILE", str(FACTORY))
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    Path("params.yaml").write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages up to `lego` have run."""
    folder = tmp_path_factory.mktemp("mda")
    with chdir(folder):
        _params()
        dataset.main(Path("dataset"), Path("dataset.json"))
        for model in ("low", "high", "every"):
            zoo.main(Path("dataset"), model, Path("zoo", model), Path("m.json"), Path("c.json"))
            out = Path("contributions", model)
            contributions.main(Path("dataset"), Path("zoo", model), model, out, Path(f"{model}.json"))
        for task in ("few", "one", "upper"):
            components.main(*DATA, task, Path("components", task), Path(f"{task}.json"))
        Path("zoo/removed").mkdir()
        lego.main(*ALL, Path("lego"), Path("lego.json"))
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in that folder, with its params."""
    monkeypatch.chdir(made)
    _params()


@pytest.mark.usefixtures("here")
def test_every_class_has_its_masks_and_a_row_a_layer() -> None:
    masks = artifacts.read_tensors(Path("contributions/low/masks.safetensors"))
    assert masks["0.0"].shape == (5, 12)
    assert masks["0.0"].any(1).all()
    table = pandas.read_csv("contributions/low/kept.csv")
    assert list(table.columns) == ["class", "layer", "channels", "kept"]
    assert len(table) == 10
    assert 0 < artifacts.read_metrics(Path("low.json"))["overall"] < 1


@pytest.mark.usefixtures("here")
def test_components_stand_beside_their_source() -> None:
    few = artifacts.read_metrics(Path("few.json"))
    assert few["accuracy"]["source_restricted"] > 80
    assert few["share"] < 1
    assert set(artifacts.read_metrics(Path("one.json"))["auroc"]) == {"source_all", "source_restricted", "component"}
    _, recipe = files.load_as(Component, Path("components/few"), trust=True)
    assert recipe.classes == ("1", "3")
    assert recipe.source.name == "low"


@pytest.mark.usefixtures("here")
def test_components_are_assembled_and_stand_beside_their_controls() -> None:
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
    few, upper = (artifacts.read_metrics(Path(f"{task}.json"))["accuracy"]["component"] for task in ("few", "upper"))
    assert result["accuracy"]["mean_component"] == pytest.approx((few + upper) / 2)


@pytest.mark.usefixtures("here")
def test_padded_it_is_larger_and_says_the_same() -> None:
    _params(("scaling: winning_score", "form: padded, scaling: affine"))
    lego.main(*ALL, Path("padded"), Path("padded.json"))
    padded, parallel = (artifacts.read_metrics(Path(name)) for name in ("padded.json", "lego.json"))
    assert padded["params"] > padded["parts_params"]
    assert padded["scalings"] == parallel["scalings"]
    network, opened = load(Path("padded/network"), trust=True)
    assert opened.classes == ("5", "6", "7", "8", "9", "1", "3")
    assert network(torch.zeros(1, *opened.input.shape)).shape == (1, 7)


@pytest.mark.usefixtures("here")
def test_tuning_changes_weights_and_no_statistics() -> None:
    how = "{epochs: 2, batch_size: 64, learning_rate: 1.0e-3, weight_decay: 0, warmup: 0, label_smoothing: 0}"
    _params(("scaling: winning_score", f"tuning: {how}, scaling: winning_score"))
    lego.main(*ALL, Path("tuned"), Path("tuned.json"))
    tuned, before = (artifacts.read_metrics(Path(name)) for name in ("tuned.json", "lego.json"))
    assert tuned["accuracy"] == before["accuracy"]
    assert tuned["tuned"]["test"] > before["accuracy"]["scaled"]
    network, untuned = (files.load_as(Assembled, Path(name, "network"), trust=True)[0] for name in ("tuned", "lego"))
    assert not torch.equal(network(torch.ones(1, 3, 8, 8)), untuned(torch.ones(1, 3, 8, 8)))
    norms = {name: value for name, value in untuned.state_dict().items() if "running" in name}
    assert norms
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in norms.items())


HOW = "epochs: 8, batch_size: 32, learning_rate: 2.0e-3, weight_decay: 0, warmup: 0.1, label_smoothing: 0"


@pytest.mark.usefixtures("here")
def test_a_component_learns_from_its_source() -> None:
    """Cut small, it gets better; without a teacher it ends elsewhere; one class alone is left as it is."""
    small = ("size: null", "size: {params: 0.3}")
    ways = {"untaught": HOW, "taught": f"{HOW}, distillation: 0.7, temperature: 2"}
    found, states = {}, {}
    for name, how in ways.items():
        _params(small, ("repair: {}", f"repair: {{}}\n  tuning: {{{how}}}"))
        components.main(*DATA, "upper", Path(name), Path("t.json"))
        found[name] = artifacts.read_metrics(Path("t.json"))
        network, recipe = files.load_as(Component, Path(name), trust=True)
        states[name] = network.state_dict()
        assert recipe.classes == ("5", "6", "7", "8", "9")
    taught = found["taught"]
    assert taught["accuracy"]["component"] > taught["untuned"]["accuracy"] > taught["unrepaired"]["accuracy"]
    assert found["taught"]["untuned"] == found["untaught"]["untuned"]
    assert not torch.equal(states["taught"]["0.0.weight"], states["untaught"]["0.0.weight"])
    components.main(*DATA, "one", Path("alone"), Path("t.json"))
    _params(small)
    components.main(*DATA, "one", Path("again"), Path("u.json"))
    assert artifacts.read_metrics(Path("t.json")) == artifacts.read_metrics(Path("u.json"))
    assert Path("alone/model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()


@pytest.mark.usefixtures("here")
def test_an_assembly_learns_from_whole_networks() -> None:
    def tuned(teacher: str, which: str = LEGO, weight: float = 0.9) -> dict[str, torch.Tensor]:
        how = f"{{{HOW}, distillation: {weight}, teacher: {teacher}}}".replace("epochs: 8", "epochs: 1")
        _params((LEGO, which), ("scaling: winning_score", f"tuning: {how}, scaling: winning_score"))
        lego.main(*ALL, Path("taught"), Path("taught.json"))
        return artifacts.read_tensors(Path("taught/network/model.safetensors"))

    every, both, nobody = tuned("every"), tuned("ensemble"), tuned("every", weight=0)
    assert all(torch.equal(tensor, both[name]) for name, tensor in every.items())  # it alone knows all classes
    assert not all(torch.equal(tensor, nobody[name]) for name, tensor in every.items())
    tuned("budget", CHOSEN.replace("low, high, every", "low, high"))
    assert artifacts.read_metrics(Path("taught.json"))["whole"]["name"] == "every"
    with pytest.raises(BrickyardError, match=r"^lego\.tuning\.teacher = 'low': does not know class '5'; .*: every$"):
        tuned("low")
    with pytest.raises(BrickyardError, match=r"lego\.tuning\.teacher = 'budget': no network of the zoo is within"):
        tuned("budget", CHOSEN.replace("8000", "1200"))


@pytest.mark.usefixtures("here")
def test_a_choice_goes_on_where_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    _params((LEGO, CHOSEN))
    repair, calls = lib_component.repair, list[int]()

    def interrupted(*args: Any) -> nn.Module:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return repair(*args)

    monkeypatch.setattr(lib_component, "repair", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lego.main(*ALL, Path("chosen"), Path("ch.json"))
    lego.main(*ALL, Path("chosen"), Path("ch.json"))
    found = artifacts.read_metrics(Path("ch.json"))
    assert 1 in [len(own["tasks"]) for own in found["tried"]]
    assert len(calls) == 1 + len({task for own in found["tried"] for task in map(str, own["tasks"].items())})
    best = max(found["tried"], key=lambda own: own["validation_accuracy"])
    assert found["tried"][0] == best == {key: found[key] for key in best}
    assert found["params"] == found["parts_params"] <= 8000
    assert found["whole"]["name"] == "every"
    assert found["whole"]["test_accuracy"] > 50
    images, told = found["searched"]["images"], found["prediction"]
    assert images["both"] == 0
    halves = (found["validation_accuracy"], images["choosing"]), (found["predicted_accuracy"], images["predicting"])
    together = sum(accuracy * count for accuracy, count in halves) / sum(count for _, count in halves)
    assert together == pytest.approx(found["scalings"]["validation"]["winning_score"])
    assert told["predicted"] == found["predicted_accuracy"] > 50
    assert told["measured"] == found["accuracy"]["scaled"]
    assert told["difference"] == told["predicted"] - told["measured"]
    assert found["searched"]["complete"]
    assert all(own["uncut_accuracy"] <= own["bound"] for own in found["tried"])


@pytest.mark.usefixtures("here")
def test_a_budget_that_nothing_meets_is_named() -> None:
    _params((LEGO, CHOSEN.replace("8000", "40")))
    with pytest.raises(BrickyardError, match=r"lego\.choose\.budget: .* within params = 40 .*raise it"):
        lego.main(*ALL, Path("no"), Path("no.json"))


@pytest.mark.usefixtures("here")
def test_a_class_that_the_network_does_not_know_is_named() -> None:
    _params(('"1,3"', '"1,7"'))
    with pytest.raises(BrickyardError, match=r"components\.tasks\.few: low does not know class '7'"):
        components.main(*DATA, "few", Path("again"), Path("a.json"))


@pytest.mark.usefixtures("here")
def test_components_of_a_choice_have_the_size_and_are_those_of_their_stage() -> None:
    size = ("size: null", "size: {params: 0.4}"), ("scaling: winning_score", "scaling: none")
    _params(*size, (LEGO, CHOSEN.replace("8000", "1200")))
    lego.main(*ALL, Path("sized"), Path("sized.json"))
    found = artifacts.read_metrics(Path("sized.json"))
    network, recipe = files.load_as(Assembled, Path("sized/network"), trust=True)
    branches = network.get_submodule("branches").children()
    total = 0
    for (model, own), branch in zip(found["tasks"].items(), branches, strict=True):
        _params(*size, ('{model: low, classes: "1,3"}', f'{{model: {model}, classes: "{",".join(own)}"}}'))
        components.main(*DATA, "few", Path("alone"), Path("alone.json"))
        alone, its = files.load_as(Component, Path("alone"), trust=True)
        same, part = alone.state_dict(), recipe.parts[model]
        assert all(torch.equal(weight, same[name]) for name, weight in branch.state_dict().items())
        assert (its.kept, its.classes, its.cost) == (part.kept, part.classes, part.cost)
        assert artifacts.read_metrics(Path("alone.json"))["share"] == pytest.approx(0.4, rel=0.1)
        total += its.cost.params
    assert found["params"] == total <= 1200
    assert all(own["params"] <= 1200 for own in found["tried"])
