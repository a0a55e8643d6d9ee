"""Stage `finetune` in two processes, which it starts itself or a launcher does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LAUNCHER = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))


def _started(repo: Path, out: Path, *launcher: str, **environment: str) -> subprocess.Popen[str]:
    paths = {"dataset": "artifacts/dataset", "candidate": "artifacts/assembly/candidates/r1", "out": str(out)}
    paths |= {name: str(out.with_suffix(f".{name}.json")) for name in ("metrics", "curve")}
    return subprocess.Popen(
        [sys.executable, *(launcher or []), "-m", "stages.finetune"]
        + [word for name, path in paths.items() for word in (f"--{name}", path)],
        cwd=repo,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_both_ways_to_start_them_come_to_the_same_near_that_of_one(repo: Path, tmp_path: Path) -> None:
    alone = load_file(repo / "artifacts" / "finetune" / "r1" / "model.safetensors")
    for name, launcher, environment in [("own", (), {"BRICKYARD_PROCESSES": "2"}), ("launched", LAUNCHER, {})]:
        started = _started(repo, tmp_path / name, *launcher, **environment)
        _, said = started.communicate(timeout=250)
        assert started.returncode == 0, said
    own, launched = (load_file(tmp_path / name / "model.safetensors") for name in ("own", "launched"))
    assert all(torch.equal(tensor, launched[key]) for key, tensor in own.items())
    for key, tensor in alone.items():
        torch.testing.assert_close(own[key], tensor, rtol=1e-2, atol=1e-2)
    recipe = json.loads((tmp_path / "own" / "recipe.json").read_text())
    assert {how.get("processes") for how in recipe["tuning"] if how["protocol"] != "stacked"} == {2}


def test_one_that_is_killed_is_named_and_training_goes_on(repo: Path, tmp_path: Path) -> None:
    params = repo / "params.yaml"
    before, finetune, after = params.read_text().partition("\nfinetune:\n")
    params.write_text(before + finetune + after.replace("{epochs: 1,", "{epochs: 4,", 2))
    whole = _started(repo, tmp_path / "whole", BRICKYARD_PROCESSES="2")
    assert whole.communicate(timeout=250) == ("", "")
    started = _started(repo, tmp_path / "killed", BRICKYARD_PROCESSES="2")
    until = time.monotonic() + 250
    while not list((repo / ".scratch" / "finetune" / "r1").glob("*.pt")) and time.monotonic() < until:
        time.sleep(0.02)
    (other,) = psutil.Process(started.pid).children()
    other.send_signal(signal.SIGKILL)
    _, said = started.communicate(timeout=60)
    expected = "finetune: process 2 of 2 was ended by SIGKILL; run it again: training goes on from its last epoch\n"
    assert (started.returncode, said) == (1, expected)
    assert not (tmp_path / "killed").exists()
    again = _started(repo, tmp_path / "killed", BRICKYARD_PROCESSES="2")
    assert again.communicate(timeout=250) == ("", "")
    for name in ("model.safetensors", "recipe.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (repo / ".scratch" / "finetune" / "r1").exists()
