"""The whole DAG through DVC, once from nothing and once with a changed parameter, on pico networks."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from commands import check, predict, sweep
from commands.plan import __main__ as plan
from commands.plan import estimates, machine
from lib.base import artifacts, pipeline, usage
from lib.base.errors import BrickyardError
from lib.network.files import load_as
from lib.network.reassembled import Reassembled
from lib.trace import cost
from tests import preloaded
from tests.stages.conftest import dvc

pytestmark = pytest.mark.timeout(600)
AFTER_PARTITION = {"partition", "edges", "bricks", "assembly", "finetune", "report"}


def _dvc(repo: Path, *arguments: str) -> str:
    return dvc(repo, *arguments).stdout


def _ran(output: str) -> list[str]:
    """The stages that a repro ran, or would run."""
    return re.findall(r"Running stage '([^']+)'", output)


def _edit(repo: Path, old: str, new: str) -> None:
    file = repo / "params.yaml"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture(scope="module")
def repo(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with pico params and everything made."""
    stages = {name.split("@")[0] for name in _ran((made / "made.txt").read_text())}
    assert {"dataset", "zoo", "contributions", "lego", "report"} <= stages
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("dag") / "repo", symlinks=True))


def test_a_second_repro_runs_nothing(repo: Path) -> None:
    assert _ran(_dvc(repo, "repro")) == []


def test_a_plan_is_made_of_what_stages_took(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has noted it; a sentence changed in the code makes nothing run but the stage that finds this out."""
    monkeypatch.chdir(repo)
    monkeypatch.setattr(sys, "executable", str(preloaded.folder() / "python"))  # asks DVC what is stale
    monkeypatch.setattr(machine, "SPENT", 0.01)
    taken = usage.load(repo / ".scratch" / "usage")
    assert sorted(taken) == sorted(pipeline.names())
    assert all(0 < one.seconds < 600 and one.memory > 2**24 for one in taken.values())
    assert taken["lego"].images == {"train": 1077, "validation": 270, "test": 450, "probe": 64}
    source = repo / "lib" / "base" / "errors.py"
    before = source.read_text()
    source.write_text(f"{before}# a comment\n")
    assert plan.main([], as_json=True)
    source.write_text(before)
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["stages"]] == ["code"]
    _edit(repo, "  trees: 1\n", "  trees: 2\n")
    assert plan.main([], as_json=True)
    _edit(repo, "  trees: 2\n", "  trees: 1\n")
    told = json.loads(capsys.readouterr().out)["stages"]
    assert [one["name"] for one in told] == ["assembly", "finetune@1", "report"]
    assert all(one["before"] for one in told)
    assert told[1]["seconds"] == pytest.approx(taken["finetune@1"].seconds, rel=0.01)
    weights = [name for name in taken if name.startswith(("zoo@", "activations@", "edges@", "lego"))]
    for name, one in estimates.estimates(weights, 3.0).items():
        left = (repo / "artifacts" / name.replace("@", "/")).glob("**/*.safetensors")
        assert one.kept is not None
        assert 0.3 < one.kept / sum(file.stat().st_size for file in left) < 2, name


def test_check_knows_whether_a_candidate_meets_the_budgets(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo)
    assert check.main()
    assert capsys.readouterr().out.endswith("10 classes; some candidate meets the budgets\n")
    _edit(repo, "params: 20e+3", "params: 100")
    assert not check.main()
    assert "no candidate meets the budgets: assembly.budget.params = 100: at least " in capsys.readouterr().out
    _edit(repo, "skip: false}", "skip: true}")
    assert check.main()
    assert "no candidate of whole blocks meets the budgets; whether another one does" in capsys.readouterr().out
    _edit(repo, "skip: true}", "skip: false}")
    _edit(repo, "params: 100", "params: 20e+3")


def test_a_sweep_tells_what_each_budget_buys(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the edges on disk; a second one writes the same bytes. One that nothing meets is one line, at once."""
    monkeypatch.chdir(repo)
    monkeypatch.setattr(sys, "executable", str(preloaded.folder() / "python"))  # asks DVC what is stale
    sweep.main(None, 2, tmp_path / "all")
    written = {file.name: file.read_bytes() for file in sorted((tmp_path / "all").iterdir())}
    assert list(written) == [f"{kind}.{form}" for kind in ("macs", "memory", "params") for form in ("json", "svg")]
    rows = json.loads(written["params.json"])
    assert {row["form"] for row in rows} == {"chain", "tree", "whole"}
    assert len({row["limit"] for row in rows}) == 2
    assert all(row["params"] <= row["limit"] and 0 < row["accuracy"] <= 100 for row in rows)
    printed = capsys.readouterr().out
    assert all(f"{row['accuracy']:.1f}" in printed for row in rows)
    for name in ("one", "again"):
        sweep.main(["params"], 2, tmp_path / name)  # whose trees are of these chains alone
    one, again = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "again"))
    assert one == again
    assert sorted(one) == ["params.json", "params.svg"]
    with pytest.raises(BrickyardError, match=r"^--kinds latency: nothing has been measured; first "):
        sweep.main(["macs", "latency"], 2, tmp_path / "none")
    _edit(repo, "macs: null", "macs: 10")
    with pytest.raises(BrickyardError, match=r"^no candidate meets the budgets: assembly.budget.macs = 10: at least"):
        sweep.main(["params"], 2, tmp_path / "none")
    _edit(repo, "macs: 10", "macs: null")
    _edit(repo, "    residual:", "    other:")
    with pytest.raises(BrickyardError, match=r"^artifacts/partition/partition.json is of high, low, residual, zoo.mod"):
        sweep.main(["params"], 2, tmp_path / "none")
    _edit(repo, "    other:", "    residual:")
    _edit(repo, "{init: least_squares", "{init: random")
    with pytest.raises(BrickyardError, match=r"edges@high, .*: not made of what is here now; first ./run dvc repro"):
        sweep.main(["params"], 2, tmp_path / "none")
    _edit(repo, "{init: random", "{init: least_squares")
    assert not (tmp_path / "none").exists()


def test_artifacts_hold_what_was_promised(repo: Path) -> None:
    metrics = json.loads((repo / "metrics/assembly/assembly.json").read_text())
    assert {"random_assembly", "random_search", "zoo", "ensemble"} <= set(metrics["controls"])
    table = (repo / "artifacts/assembly/proxies.csv").read_text().splitlines()
    assert table[0] == "rank,path,accuracy,likelihood,naswot,synflow,params,macs,score"
    assert (repo / "artifacts/assembly/pareto.csv").read_text().startswith("budget,cost,score,path,within_budget,")
    fronts = {file.stem for file in (repo / "metrics/assembly/pareto").iterdir()}
    assert fronts == {"params", "macs", "memory"}
    tuned = json.loads((repo / "metrics/finetune/r1.json").read_text())
    assert set(tuned["test"]) - {"stacked"} == {"untrained", "frozen", "full", "scratch", "zoo"}
    taught = repo / "artifacts/assembly/candidates/r1/teachers"
    assert [folder.name for folder in taught.iterdir()] == ["residual"]  # which alone knows all classes
    recipe = json.loads((repo / "artifacts/finetune/r1/recipe.json").read_text())
    told = {how["protocol"]: how.get("teacher") for how in recipe["tuning"]}
    assert {"frozen": None, "full": "ensemble"}.items() <= told.items()
    assert list(told) == [name for name in ("frozen", "full", "stacked") if name in tuned["test"]]
    page = (repo / "artifacts/report/report.html").read_text()
    assert "Pico" in page
    assert 'aria-label="Linear CKA between all pairs of nodes"' in page


def test_the_network_keeps_its_budget_when_counted_anew(repo: Path) -> None:
    model, recipe = load_as(Reassembled, repo / "artifacts/assembly/candidates/r1", trust=True)
    counted = cost.count(model, recipe.input.shape)
    assert counted.params <= 20_000
    assert counted == recipe.cost
    saved = artifacts.read_tensors(repo / "artifacts/assembly/candidates/r1/model.safetensors")
    assert counted.params == sum(saved[name].numel() for name, _ in model.named_parameters())
    assert len({part["source"] for part in recipe.parts if part["kind"] == "block"}) >= 2


def test_predict_names_a_class_for_every_image(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    (repo / "pictures").mkdir()
    for i in range(2):
        Image.new("RGB", (20 + i, 30), (90 * i, 0, 0)).save(repo / "pictures" / f"{i}.png")
    printed = [preloaded.run(repo, "commands.predict", "--trust", "artifacts/finetune/r1", "pictures").stdout]
    monkeypatch.chdir(repo)
    for made in ("finetune/r1", "zoo/residual", "components/low", "lego/network"):
        predict.main(Path("artifacts", made), Path("pictures"), trust=True)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    for text in printed:
        lines = [line.split("\t") for line in text.splitlines()]
        assert [Path(file).name for file, _, _ in lines] == ["0.png", "1.png"]
        assert all(name in "0123456789" and 0 < float(share) <= 100 for _, name, share in lines)


def test_a_wrong_value_is_one_line_and_nothing_is_lost(repo: Path) -> None:
    before = (repo / "params.yaml").read_text()
    _edit(repo, "start: input", "start: middle")
    done = preloaded.run(repo, "stages.partition", "--similarity", "x", "--out", "y", "--metrics", "z")
    (repo / "params.yaml").write_text(before)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "partition: params.yaml: partition.start = 'middle': should be 'input' or 'first_output'"
    )


def test_more_ranks_than_candidates_is_an_error_that_names_ranks(repo: Path) -> None:
    before = (repo / "params.yaml").read_text()
    _edit(repo, "ranks: [1]", "ranks: [1, 900]")
    _edit(repo, "  pool: 3\n", "  pool: 3000\n")
    done = dvc(repo, "repro", "-s", "assembly", check=False)
    (repo / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert "finetune.ranks asks for r900, but" in done.stderr
    _dvc(repo, "checkout")


def test_a_changed_parameter_reruns_what_follows_and_nothing_else(repo: Path) -> None:
    """The second run through DVC; going back afterwards runs nothing and restores the very same lock."""
    lock = (repo / "dvc.lock").read_text()
    _edit(repo, "num_blocks: 2", "num_blocks: 3")
    would = {name.split("@")[0] for name in _ran(_dvc(repo, "repro", "--dry"))}
    assert {"partition"} <= would <= AFTER_PARTITION
    _edit(repo, "num_blocks: 3", "num_blocks: 2")
    _edit(repo, "random_search: 3", "random_search: 2")
    assert _ran(_dvc(repo, "repro")) == ["assembly", "report"]  # an unchanged candidate is not tuned again
    assert (repo / "dvc.lock").read_text() != lock
    _edit(repo, "random_search: 2", "random_search: 3")
    assert _ran(_dvc(repo, "repro")) == []
    assert (repo / "dvc.lock").read_text() == lock


def test_a_changed_zoo_entry_reruns_that_network_and_the_fan_ins(repo: Path) -> None:
    before = (repo / "params.yaml").read_text()
    _edit(repo, "factory: tests.pico:PicoResNet", "factory: tests.pico:PicoResNet\n      training: {epochs: 2}")
    would = set(_ran(_dvc(repo, "repro", "--dry")))
    (repo / "params.yaml").write_text(before)
    single = {name for name in would if name.startswith(("zoo@", "activations@", "contributions@"))}
    # A dry run shows what has changed by itself; activations@residual follows once the weights are new.
    assert {"zoo@residual"} <= single <= {"zoo@residual", "activations@residual"}
    assert {"similarity", "assembly", "lego", "report"} <= would
    assert not {"dataset", "components@low", "components@high"} & would


def test_a_further_network_to_take_apart_or_a_further_task_leaves_the_others_alone(repo: Path) -> None:
    before = (repo / "params.yaml").read_text()
    _edit(repo, "models: [low, high]", "models: [low, high, residual]")
    _edit(
        repo,
        "    low: {model: low, classes: 0-4}",
        "    low: {model: low, classes: 0-4}\n    few: {model: low, classes: 0-2}",
    )
    would = _ran(_dvc(repo, "repro", "--dry"))
    (repo / "params.yaml").write_text(before)
    assert would == ["contributions@residual", "components@few", "lego", "report"]


def test_a_network_that_cannot_be_cut_stops_the_fan_ins_alone(repo: Path) -> None:
    """With --keep-going the others' stages finish; the fan-ins wait until the entry is mended or removed."""
    before = (repo / "params.yaml").read_text()
    lock = YAML(typ="safe").load(repo / "dvc.lock")["stages"]
    entry = "{{factory: tests.pico:{}, weights: train, input_size: 16, training: {{epochs: 1}}}}"
    _edit(repo, "  models:\n", "  models:\n    added: " + entry.format("PicoResNet") + "\n")
    _edit(repo, "  models:\n", "  models:\n    uncut: " + entry.format("Inseparable") + "\n")
    done = dvc(repo, "repro", "--keep-going", "similarity", "partition", check=False)
    assert done.returncode != 0
    assert "activations: uncut: cannot be cut" in done.stderr
    assert "declare the module paths of its nodes" in done.stderr
    assert {"activations@added", "zoo@uncut"} <= set(_ran(done.stdout))
    assert (repo / "artifacts/activations/added/activations.safetensors").is_file()
    assert not {"similarity", "partition"} & set(_ran(done.stdout))
    (repo / "params.yaml").write_text(before)
    _dvc(repo, "repro", "similarity", "partition")
    after = YAML(typ="safe").load(repo / "dvc.lock")["stages"]  # entries of stages that are no more stay
    assert {name: after[name] for name in lock} == lock


def test_a_damaged_artifact_is_refused_by_name(repo: Path) -> None:
    file = repo / "artifacts/similarity/similarity.safetensors"
    tensors = artifacts.read_tensors(file)
    file.unlink()
    artifacts.write_tensors(file, tensors)
    data = bytearray(file.read_bytes())
    data[-9] ^= 4
    file.write_bytes(data)
    done = preloaded.run(repo, "stages.partition", "--similarity", str(file.parent), "--out", "y", "--metrics", "z")
    assert done.returncode == 1
    assert "similarity.safetensors is damaged" in done.stderr
    assert isinstance(tensors["similarity"], torch.Tensor)
