"""Studies are DVC projects of their own: they name what they use, and the root's commands leave them alone."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from commands.deps import rewritten
from lib.base.code import ROOT, imported_files
from lib.base.errors import BrickyardError
from studies import inputs
from tests import preloaded
from tests.stages.conftest import dvc

STUDIES = ("cifar10", "frontier", "mda")
STAGES: list[tuple[str, str, dict[str, Any]]] = [
    (study, name, stage.get("do", stage))
    for study in STUDIES
    for name, stage in YAML(typ="safe").load(ROOT / "studies" / study / "dvc.yaml")["stages"].items()
]
EACH = pytest.mark.parametrize(("study", "name", "stage"), STAGES, ids=[f"{study}-{name}" for study, name, _ in STAGES])


@EACH
def test_deps_lie_in_the_repository_and_cover_what_the_stage_runs(study: str, name: str, stage: dict[str, Any]):
    folder = ROOT / "studies" / study
    inside = [Path(folder, dep).resolve() for dep in stage["deps"]]
    assert all(path.is_relative_to(ROOT) for path in inside)
    (module,) = re.findall(r"python -m ([\w.]+)", stage["cmd"])
    run = imported_files(ROOT / f"{module.replace('.', '/')}.py")
    assert {str(path.relative_to(ROOT)) for path in inside} >= run


@EACH
def test_every_path_of_the_command_is_a_dependency_or_an_output(study: str, name: str, stage: dict[str, Any]):
    entries = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    paths = [*stage["deps"], *(path for entry in entries for path in ([entry] if isinstance(entry, str) else entry))]
    known = {_items(path) for path in paths}
    known |= {str(parent) for path in known for parent in Path(path).parents}  # folders from which items are taken
    cmd = _items(stage["cmd"])
    assert {word for word in cmd.split() if word.startswith(("artifacts/", "metrics/", "plots/"))} <= known


def _items(text: str) -> str:
    """With one name for whatever item it is."""
    return re.sub(r"\{\w+\}(-\{\w+\})?", "{item}", re.sub(r"\$\{(\w+\.)?(\w+)\}", r"{\2}", text))


@EACH
def test_no_value_of_params_reaches_a_shell(study: str, name: str, stage: dict[str, Any]):
    """What DVC pastes into commands are items, which stand in dvc.yaml itself and need no quotes."""
    whole = YAML(typ="safe").load(ROOT / "studies" / study / "dvc.yaml")["stages"][name]
    pasted = set(re.findall(r"\$\{(\w*)", stage["cmd"]))
    assert pasted <= {"item", "key"}
    if pasted:
        assert re.fullmatch(r"[\w\s\-\[\]{}:,']+", str(whole.get("foreach", whole.get("matrix"))))


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_a_project_that_waits_for_its_images(study: str):
    folder = ROOT / "studies" / study
    tracked = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert {".dvc/config", ".dvc/.gitignore", ".dvcignore", "dvc.yaml", "params.yaml", "run"} <= set(tracked.split())
    text = (folder / "dvc.yaml").read_text()
    assert rewritten(text, folder) == text, "python -m commands.deps"
    params = YAML(typ="safe").load(folder / "params.yaml")
    assert params["study"]["images"] is None
    assert params["study"]["checkpoints"] is None


def _copy(repo: Path, *names: str) -> None:
    """Some of the checkout."""
    repo.mkdir()
    for name in names:
        ignored = shutil.ignore_patterns("__pycache__", "artifacts", ".scratch", "cache", "tmp")
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, repo / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(source, repo / name)


def test_a_study_without_images_says_in_one_line_what_to_set(tmp_path: Path):
    repo = tmp_path / "repo"
    _copy(repo, "lib", "stages", "commands", "studies", "run", "versions.yaml", "requirements.lock", "dvc.yaml")
    (repo / ".venv").symlink_to(ROOT / ".venv")
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    command = ["./run", "dvc", "repro", "dataset"]
    done = subprocess.run(command, cwd=repo / "studies/mda", capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("inputs: ")]
    assert done.returncode != 0
    assert len(said) == 1, done.stdout + done.stderr
    assert "study.images is not set: in params.yaml, write the folder" in said[0]


def test_status_pull_push_and_gc_of_the_root_leave_studies_alone(tmp_path: Path):
    repo = tmp_path / "repo"
    _copy(repo, "studies", ".gitignore", ".dvcignore")
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    dvc(repo, "init", "-q")
    dvc(repo, "config", "core.analytics", "false")
    dvc(repo, "remote", "add", "-d", "store", str(tmp_path / "store"))
    (repo / "source").write_text("x")
    YAML().dump(
        {"stages": {"copy": {"cmd": "cp source made", "deps": ["source"], "outs": ["made"]}}}, repo / "dvc.yaml"
    )
    dvc(repo, "repro", "-q")
    assert "up to date" in dvc(repo, "status").stdout
    dvc(repo, "push")
    (repo / "made").unlink()
    shutil.rmtree(repo / ".dvc/cache")
    done = dvc(repo, "pull")
    assert (repo / "made").read_text() == "x"
    assert "studies" not in done.stdout + done.stderr
    dvc(repo, "gc", "-w", "-f")
    assert "up to date" in dvc(repo, "status").stdout
    assert not list(repo.glob("studies/*/artifacts"))


def test_a_checkpoint_is_found_by_the_beginning_of_its_name(tmp_path: Path):
    for name in ("resnet20-12fca82f.th", "resnet200.th", "vgg13_w25.safetensors", "vgg13_w250.safetensors"):
        (tmp_path / name).touch()
    assert inputs.checkpoint(tmp_path, "resnet20.th").name == "resnet20-12fca82f.th"
    assert inputs.checkpoint(tmp_path, "vgg13_w25.safetensors").name == "vgg13_w25.safetensors"
    with pytest.raises(BrickyardError, match=r"study\.checkpoints = .*: has no file resnet2\*; put it there"):
        inputs.checkpoint(tmp_path, "resnet2.th")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BrickyardError, match=r"study\.images = '.*gone': there is no such folder"):
        inputs.named(str(tmp_path / "gone"), "unset", "study.images")


@pytest.mark.parametrize("module", ["cifar10", "mda"])
def test_quick_forms_alone_are_left(module: str):
    command = [str(preloaded.folder() / "python"), "-m", f"benchmarks.{module}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: --quick" in done.stderr
    command += ["--quick", "--data", "no-such-place", "--checkpoints", "no-such-place"]
    if module == "cifar10":  # mda goes on with digits
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (
            1,
            "benchmarks.cifar10: no-such-place not found: name the place with --data\n",
        )
