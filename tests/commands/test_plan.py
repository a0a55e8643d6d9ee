"""A plan tells what stages will need before anything has run, and by what they took once they have."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from commands.fleet.stages import Stage
from commands.plan import __main__ as plan
from commands.plan import estimates, facts, images, machine, networks
from commands.plan.costs import COSTS
from commands.plan.facts import Facts
from commands.plan.machine import Machine, Rates, Work
from lib.base import pipeline, usage
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from lib.params import base
from lib.params.dataset import Dataset
from lib.params.zoo import ZooModel
from lib.trace import cost
from tests import pico, preloaded

SPEED = Rates(macs=1e10, moved=1e10, afresh=3e9, call=1e-5)
HERE = Machine(SPEED, SPEED, products=1e10, decoded=1e-4, written=1e9, begun=0.3, started=3.0, held=10**9)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pico params, in which nothing has run, on a machine that does what `HERE` says."""
    for name in ("dvc.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "tests/stages/pico.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "measure", lambda *_: HERE)
    return tmp_path


def _edit(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert text.count(old) == 1
    Path("params.yaml").write_text(text.replace(old, new))


def _facts() -> Facts:
    given = base.read_all()
    assert given.dataset is not None
    counted = images.count(given.dataset, changed=True)
    assert counted is not None
    return facts.gather(given, counted)


def _stages(*names: str) -> list[Stage]:
    return [Stage(name, ()) for name in names]


def test_every_stage_has_a_formula(project: Path) -> None:
    names = pipeline.names()
    assert {name.partition("@")[0] for name in names} == set(COSTS)
    found = estimates.estimates(names, 3.0)
    assert list(found) == names
    for name, one in found.items():
        assert one.about
        assert one.seconds is not None
        assert 0 < one.seconds < 60, name
        assert one.memory is not None
        assert 10**9 <= one.memory < 2 * 10**9, name
        assert not one.before


ENTRIES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "residual": ("PicoResNet", pico.PicoResNet),
    "inception": ("PicoInception", pico.PicoInception),
    "tokens": ("PicoViT", pico.PicoViT),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_network_is_counted_without_its_weights(name: str) -> None:
    function, build = ENTRIES[name]
    entry = ZooModel(factory=f"tests.pico:{function}", weights="train", input_size=16)
    found, real = networks.profile(name, entry, 4), build().eval()
    counted = cost.count(real, pico.IMAGE)
    assert found.params == counted.params
    assert sum(part.macs for part in found.parts) == counted.macs
    assert found.size == 16
    layers = [one for one in real.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    assert sorted(layer.outputs for part in found.parts for layer in part.layers) == sorted(
        one.weight.shape[0] for one in layers
    )
    mixed = sum(one.inputs * one.outputs * one.positions for part in found.parts for one in part.layers)
    assert 0.6 * counted.macs <= mixed <= counted.macs  # the rest is attention
    assert all(made <= moved for part in found.parts for made, moved in part.operations)
    assert all(0 < len(part.operations) <= part.traced for part in found.parts)


class Reading(nn.Module):
    """Looks at its weights when it is made, which shapes do not allow."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.body = pico.plain(num_classes)
        self.norm = float(next(self.body.parameters()).detach().square().sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_weights_are_made_where_a_network_asks_for_them() -> None:
    entry = ZooModel(factory="tests.commands.test_plan:Reading", weights="train", input_size=16)
    assert networks.profile("reading", entry, 4).params == cost.params(Reading())
    entry = ZooModel(factory="tests.pico:Inseparable", weights="train", input_size=16)
    with pytest.raises(BrickyardError, match=r"^zoo.models.whole: cannot be cut: "):
        networks.profile("whole", entry, 4)


def test_networks_are_remembered_by_what_they_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _facts()
    monkeypatch.setattr(networks, "profile", lambda *_: pytest.fail("looked at again"))
    assert _facts().networks == first.networks
    _edit("classes: 0-4\n      input_size: 16", "classes: 0-3\n      input_size: 16")
    with pytest.raises(pytest.fail.Exception, match="again"):
        _facts()


def test_work_grows_as_what_is_to_be_done(project: Path) -> None:
    before = _facts()
    _edit("probe_images: 64", "probe_images: 640")
    _edit("training: {epochs: 3,", "training: {epochs: 30,")
    after = _facts()

    def times(name: str, what: Callable[[Work], float]) -> float:
        kind, _, item = name.partition("@")
        old, new = (COSTS[kind](one, item).work for one in (before, after))
        return what(new) / what(old)

    assert times("zoo@residual", lambda work: work.macs) == pytest.approx(10, rel=0.1)
    assert times("activations@low", lambda work: work.macs) == pytest.approx(10)
    assert 10 < times("edges@high", lambda work: work.macs) < 20  # several batches need a pass for statistics
    assert times("contributions@low", lambda work: work.macs) == 1
    kept = [COSTS["activations"](one, "residual").kept for one in (before, after)]
    assert kept[1] == 10 * kept[0]


def test_what_ran_here_before_tells_more_than_a_formula(project: Path) -> None:
    values = base.load().values
    record = usage.Usage(100.0, 5 * 10**9, params=values, images={"train": 1077, "validation": 270, "test": 450})
    for name in ("zoo@low", "zoo@high", "zoo@residual", "assembly", "report"):
        usage.save(estimates.USAGE, name, record)
    names = ("zoo@low", "zoo@residual", "assembly", "report", "lego")
    found = estimates.estimates(names, 3.0)
    assert [one.before for one in found.values()] == [True, True, True, True, False]
    assert all(found[name].seconds == pytest.approx(100, rel=1e-2) for name in names[:4])
    assert all(found[name].memory == pytest.approx(5e9, rel=1e-2) for name in names[:4])
    _edit("training: {epochs: 3,", "training: {epochs: 9,")
    longer = estimates.estimates(["zoo@low", "report"], 3.0)
    assert 100 < (longer["zoo@low"].seconds or 0) < 300  # starting takes its time, however long the training
    assert longer["report"].seconds == pytest.approx(100)


def test_what_ran_otherwise_tells_nothing(project: Path) -> None:
    values = dict(base.load().values)
    usage.save(estimates.USAGE, "zoo@low", usage.Usage(100.0, 10**9, device="cuda", params=values))
    usage.save(estimates.USAGE, "zoo@high", usage.Usage(100.0, 10**9, params={**values, "zoo": {"models": {}}}))
    usage.save(estimates.USAGE, "zoo@residual", usage.Usage(100.0, 10**9))
    found = estimates.estimates(["zoo@low", "zoo@high", "zoo@residual"], 3.0)
    assert not any(one.before for one in found.values())


def _dataset(**values: object) -> Dataset:
    given = {"path": "images", "image_size": 8, "validation": 0.1, "test": 0.2, "probe_images": 4, **values}
    return Dataset.model_validate(given)


def test_images_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (9, 7)).save(tmp_path / "images" / part / name / f"{i}.png")
    found = images.count(_dataset(source="folder"), changed=True)
    assert found is not None
    assert found.counts == {"train": 18, "validation": 2, "test": 6, "probe": 4}
    assert (found.of("train", "dog"), found.of("train", "all"), found.known("0-1")) == (9, 18, 2)
    assert 0 < images.seconds(found, _dataset(source="folder"), 16) < 1
    own = images.count(_dataset(source="torchvision", name="CIFAR10"), changed=True)
    assert own is not None
    assert own.counts == {"train": 45_000, "validation": 5_000, "test": 10_000, "probe": 4}
    assert images.seconds(own, _dataset(source="torchvision", name="CIFAR10"), 32) > 0
    assert images.count(_dataset(source="torchvision", name="Places365"), changed=True) is None
    assert images.count(_dataset(source="folder", path="images.tar.gz"), changed=True) is None


def test_what_nobody_knows_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit("source: digits, path: data/images", "source: folder, path: images.tar")
    usage.save(estimates.USAGE, "lego", usage.Usage(100.0, 10**9))
    monkeypatch.setattr("commands.fleet.stages.to_run", lambda *_: _stages("dataset", "lego"))
    assert plan.main([], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:3]] == [["dataset", *"????"], ["lego", "2", "min", "0.9", "GiB", "?", "?"]]
    assert lines[-1] == "? not known, and not counted (1 stages): ./run dvc repro dataset tells the images"


def test_what_does_not_fit_is_a_line_each(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("commands.fleet.stages.to_run", lambda *_: _stages("zoo@low", "report", "zoo@high"))
    monkeypatch.setattr(machine, "memory_free", lambda: 10**9 + 10)
    monkeypatch.setattr(machine, "disk_free", lambda _: 1000)
    assert not plan.main([], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["zoo@low", "zoo@high", "report"], "as dvc.yaml has them"
    assert lines[-3:-1] == [f"zoo@{name}: needs 0.9 GiB of memory, 0.9 GiB are free" for name in ("low", "high")]
    assert lines[-1].startswith("disk: needs 6.")
    assert not plan.main([], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in told["stages"]] == ["zoo@low", "zoo@high", "report"]
    assert told["misfits"] == lines[-3:]
    assert told["critical"] < told["serial"]
    assert told["memory_free"] == 10**9 + 10


def test_a_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "SPENT", 0.01)
    found = machine.measure(1, lambda: 1e-3, 3.0)
    assert found.networks is found.processor
    assert 1e8 < found.networks.macs < 1e12
    assert 1e8 < found.products < 1e12
    assert 1e-7 < found.networks.call < 1e-2
    assert found.seconds(Work(decoded=2000, started=1), on_device=True) == pytest.approx(5)
    work = Work(macs=1, moved=2) + 3 * Work(macs=1, calls=4)
    assert (work.macs, work.moved, work.calls) == (4, 2, 12)
    assert torch.get_num_threads() == 1


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    whole = machine.memory_free()
    assert whole > 2**20
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    assert machine.memory_free() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_free() > 2**20


def test_before_anything_has_run_a_plan_is_made_by_one_command(project: Path) -> None:
    for folder in ("lib", "stages", "data/models", "data/images"):
        (project / folder).mkdir(parents=True)
        (project / folder / "file").touch()
    subprocess.run(["git", "init", "-q"], check=True)
    assert preloaded.run(project, "dvc", "init", "-q").returncode == 0
    done = preloaded.run(project, "commands.plan", "--json", "--check", PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [stage["name"] for stage in told["stages"]] == pipeline.names()
    assert 0 < told["critical"] < told["serial"] < 3600
    assert told["unknown"] == 0
