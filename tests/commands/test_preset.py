"""python -m commands.preset: a preset in place of params.yaml, and nothing lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import preset
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from lib.params import document
from lib.params.base import read_all

PRESETS = sorted(file.stem for file in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The presets and the first of them in place, in no repository yet."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copy(tmp_path / "presets" / "digits.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def _edit(text: str = "seed: 1 ") -> bytes:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("seed: 0 ", text))
    return params.read_bytes()


def _commit() -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "params.yaml"), (*who, "commit", "-qm", "params")):
        subprocess.run(["git", *arguments], check=True)


def test_it_lists_every_preset_and_marks_the_one_in_place(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset.main(None)
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:].split()[0] for line in lines[:-1]] == PRESETS
    assert [line[2:].split()[0] for line in lines if line.startswith("*")] == ["digits"]
    assert all(len(line.split()) > 5 for line in lines), "each tells what it is"
    preset.main("cifar10", random=True)
    capsys.readouterr()
    preset.main(None)
    assert "\n* cifar10 " in f"\n{capsys.readouterr().out}"


def test_it_shows_what_changes_and_keeps_what_was_there(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (repo / "params.yaml").read_bytes()
    preset.main("cifar10")
    assert (repo / "params.yaml").read_bytes() == (repo / "presets" / "cifar10.yaml").read_bytes()
    assert (repo / "params.yaml.bak").read_bytes() == before
    out = capsys.readouterr().out
    assert "\n-  name: null # class of" in out
    assert "\n+  name: CIFAR10 # class of" in out
    assert "params.yaml is preset cifar10 now; what it was before is in params.yaml.bak\n" in out
    preset.main("cifar10")
    assert capsys.readouterr().out == "params.yaml is this preset already\n"


def test_no_backup_is_overwritten_and_none_is_made_twice(repo: Path) -> None:
    for name in ("cifar10", "dery", "digits", "cifar10", "dery", "digits"):
        preset.main(name)
    kept = [(repo / f"params.yaml.bak{number}").read_bytes() for number in ("", "2", "3")]
    assert kept == [(repo / "presets" / f"{name}.yaml").read_bytes() for name in ("digits", "cifar10", "dery")]
    assert len([*repo.glob("params.yaml*")]) == 4


def test_edits_that_are_in_no_commit_are_not_replaced_unasked(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = _edit()
    refused = (
        r"^params\.yaml has edits that are in no commit: commit it, or give --force, which keeps it as params\S+bak$"
    )
    with pytest.raises(BrickyardError, match=refused):
        preset.main("dery")
    _commit()
    preset.main("dery")
    preset.main("digits", random=True)
    preset.main("cifar10")  # what this command has made is no edit
    (repo / "params.yaml").write_bytes(edited)
    preset.main("dery")  # in a commit, if the present branch has it not
    again = edited + b"# mine\n"
    (repo / "params.yaml").write_bytes(again)
    capsys.readouterr()
    with pytest.raises(BrickyardError, match="has edits that are in no commit"):
        preset.main("digits")
    assert (repo / "params.yaml").read_bytes() == again
    assert capsys.readouterr().out == ""
    preset.main("digits", force=True)
    assert again in [file.read_bytes() for file in repo.glob("params.yaml.bak*")]


def test_what_is_only_staged_is_an_edit(repo: Path) -> None:
    _commit()
    _edit()
    subprocess.run(["git", "add", "params.yaml"], check=True)
    with pytest.raises(BrickyardError, match="in no commit"):
        preset.main("dery")


def test_dry_changes_nothing(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = _edit()
    preset.main("dery", dry=True)
    assert capsys.readouterr().out.startswith("--- params.yaml\n+++ the preset\n@@ ")
    assert (repo / "params.yaml").read_bytes() == edited
    assert [file.name for file in repo.glob("params.yaml*")] == ["params.yaml"]


def test_without_a_params_yaml_there_is_none_to_keep(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "params.yaml").unlink()
    preset.main("digits")
    assert "params.yaml is preset digits now\n" in capsys.readouterr().out
    assert [file.name for file in repo.glob("params.yaml*")] == ["params.yaml"]


def test_what_is_no_preset_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (repo / "params.yaml").read_bytes()
    for name in ("vgg", "../params", "digits.yaml"):
        with pytest.raises(BrickyardError, match=rf"^there is no preset '{name}'; there are {', '.join(PRESETS)}$"):
            preset.main(name)
    (repo / "presets" / "mine.yaml").write_text("# mine: seeds\nrun: {seed: -1, threads: 1}\n")
    with pytest.raises(
        BrickyardError, match=r"^presets/mine\.yaml: run\.seed = -1: should be .*; .*dataset is missing"
    ):
        preset.main("mine")
    (repo / "presets" / "mine.yaml").write_text("run: {seed: ")
    with pytest.raises(BrickyardError, match=r"^presets/mine\.yaml is not valid YAML: line 1: "):
        preset.main("mine")
    preset.main(None)  # tells of it as of the others
    assert (repo / "params.yaml").read_bytes() == before
    monkeypatch.chdir(repo / "presets")
    with pytest.raises(BrickyardError, match="run from the root"):
        preset.main("digits")


def test_the_command_ends_with_one_line(repo: Path) -> None:
    _edit()
    done = subprocess.run(
        [sys.executable, "-m", "commands.preset", "dery"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("preset: params.yaml has edits that are in no commit")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_dry_run_has_random_weights_and_an_epoch_of_tuning(name: str, repo: Path) -> None:
    preset.main(name, random=True)
    made, given = (
        read_all(),
        document.check(document.parse((repo / "presets" / f"{name}.yaml").read_bytes()).document)[0],
    )
    assert made.zoo is not None
    assert given.zoo is not None
    for key, entry in made.zoo.models.items():
        other = given.zoo.models[key]
        classes = "all" if other.classes == "own" else other.classes
        assert entry == other.model_copy(update={"weights": "random", "classes": classes})
    assert made.finetune is not None
    assert made.finetune.frozen.epochs == 1
    assert made.finetune.full.epochs <= 1
    here = (repo / "params.yaml").read_text().splitlines()
    there = (repo / "presets" / f"{name}.yaml").read_text().splitlines()
    assert here.pop(1) == f"# Random weights, for a dry run; python -m commands.preset {name} puts the others back"
    assert len(here) == len(there)
    changed = {line.split(":")[0].strip() for line, other in zip(here, there, strict=True) if line != other}
    assert changed <= {"weights", "classes", "epochs"}


def test_random_weights_reach_what_is_written_in_other_ways() -> None:
    text = """\
# one
zoo:
  models:
    a: {timm: x, "weights": 'pretrained' , classes: "own"} # a's
    b: &b
      weights: train # here
      training: {epochs: 30}
    c: {<<: *b, factory: f}
    d: {timm: x, weights: data/models/pretrained}
components: {tuning: {<<: {epochs: 4}}}
lego: {tuning: null}
finetune: {frozen: {epochs: 10}, full: {epochs: 0}}
"""
    assert preset.begun(text.encode(), "x").decode().splitlines()[2:] == [
        "zoo:",
        "  models:",
        '    a: {timm: x, "weights": random , classes: all} # a\'s',
        "    b: &b",
        "      weights: random # here",
        "      training: {epochs: 30}",
        "    c: {<<: *b, factory: f}",
        "    d: {timm: x, weights: data/models/pretrained}",
        "components: {tuning: {<<: {epochs: 1}}}",
        "lego: {tuning: null}",
        "finetune: {frozen: {epochs: 1}, full: {epochs: 0}}",
    ]
