"""A fleet does what `dvc repro` does, side by side, and goes on where a stage fails or a worker is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands.fleet.stages import Stage, weights
from lib.base import artifacts
from lib.base.code import ROOT
from tests import preloaded

KILL = """
import os, psutil
for process in psutil.process_iter(["cmdline"]):
    words = process.info["cmdline"] or []
    if any(word.endswith("ending.py") for word in words) and words[-1] == "left" and process.cwd() == os.getcwd():
        process.parent().kill()  # the worker
"""
STAGES = """
stages:
  first: {cmd: "cat params.yaml >first", deps: [params.yaml], outs: [first]}
  left:
    cmd: echo x >>begun; test $(wc -l <begun) -gt 1 || { python kill.py; sleep 60; }; cat first >left
    deps: [first]
    outs: [left]
  right: {cmd: "cat first >right", deps: [first], outs: [right]}
  both: {cmd: "cat left right >both", deps: [left, right], outs: [both]}
  wrong: {cmd: "echo no luck; exit 3", deps: [first], outs: [wrong]}
  behind: {cmd: "cat wrong >behind", deps: [wrong], outs: [behind]}
"""


def _project(repo: Path, stages: str) -> Path:
    repo.mkdir()
    (repo / "dvc.yaml").write_text(stages)
    (repo / "params.yaml").write_text("x: 1\n")
    (repo / "kill.py").write_text(KILL)
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    _dvc(repo, "init", "-q")
    (repo / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    return repo


def _dvc(repo: Path, *arguments: str) -> str:
    done = preloaded.run(repo, "dvc", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _fleet(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(repo, "commands.fleet", *arguments, PYTHONPATH=str(ROOT))


def test_a_lost_worker_costs_nothing_and_a_failure_what_follows_it(tmp_path: Path) -> None:
    repo = _project(tmp_path / "é project", STAGES)
    done = _fleet(repo)
    assert done.returncode == 1
    assert done.stderr == "fleet: 1 of 6 stages failed: wrong\n"
    told = dict(re.findall(r"\d of 6 (\w+): (.*)", done.stdout))
    assert told["wrong"] == "failed: no luck"
    assert told["behind"] == "not run, it follows wrong that failed"
    assert (repo / "begun").read_text() == "x\nx\n", "its worker was killed"
    assert (repo / "both").read_text() == "x: 1\nx: 1\n"
    assert set(artifacts.read_json(repo / ".scratch/fleet/seconds.json")) == {"first", "left", "right", "both"}
    (repo / "dvc.yaml").write_text(STAGES[: STAGES.index("  wrong")])
    assert "didn't change" in _dvc(repo, "repro")
    assert _dvc(repo, "status", "--json").strip() == "{}"
    assert _fleet(repo).stdout == "nothing to do\n"


def test_what_is_longest_to_the_end_is_urgent() -> None:
    stages = [Stage("a", ()), Stage("b", ("a",)), Stage("c", ("a",)), Stage("d", ("b", "c"))]
    assert weights(stages, {"a": 1, "b": 2, "c": 5, "d": 1}) == {"a": 7, "b": 3, "c": 6, "d": 1}
    assert weights(stages, {}) == {"a": 3, "b": 2, "c": 2, "d": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--local", "0"], "--local 0: should be 1 or more"),
        (["nothing"], "'nothing' not found"),
        (["--slurm", "jobs.yaml"], "--slurm"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    repo = _project(tmp_path / "project", STAGES)
    done = _fleet(repo, *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    repo = _project(tmp_path / "project", STAGES)
    (repo / "params.yaml").write_text("zoo: {models: {../../data: {}}}\n")
    assert "a name has letters" in _fleet(repo).stderr


@pytest.mark.slow
def test_ctrl_c_leaves_what_has_ended(tmp_path: Path) -> None:
    stages = STAGES[: STAGES.index("  left")] + "  long: {cmd: sleep 600; touch long, deps: [first], outs: [long]}\n"
    repo, there = _project(tmp_path / "project", stages), {**os.environ, "PYTHONPATH": str(ROOT)}
    command, pipe = [sys.executable, "-m", "commands.fleet"], subprocess.PIPE
    running = subprocess.Popen(command, cwd=repo, env=there, stdout=pipe, stderr=pipe, text=True, process_group=0)
    while not (repo / ".scratch/fleet/long.log").exists():
        assert running.poll() is None
        time.sleep(0.1)
    time.sleep(5)
    os.killpg(running.pid, signal.SIGINT)
    assert running.communicate()[1] == "fleet: interrupted; run it again\n"
    assert running.returncode == 130
    assert "long" in _dvc(repo, "status", "--json")
    assert "first" not in _dvc(repo, "status", "--json", "first")
    assert not subprocess.run(["pgrep", "-f", "sleep 600"], check=False, capture_output=True).stdout


@pytest.mark.slow
def test_nobody_answers_at_an_address(tmp_path: Path) -> None:
    done = _fleet(_project(tmp_path / "project", STAGES), "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "no scheduler answers there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_worker_with_other_params_is_refused(tmp_path: Path) -> None:
    own, other = (_project(tmp_path / name, STAGES) for name in ("own", "other"))
    (other / "params.yaml").write_text("x: 2\n")
    there, address = {**os.environ, "PYTHONPATH": str(ROOT)}, "tcp://127.0.0.1:8797"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "8797"]
    worker = [sys.executable, "-m", "commands.fleet", "--join", address]
    with (
        subprocess.Popen([*scheduler, "--no-dashboard"], stderr=subprocess.DEVNULL) as first,
        subprocess.Popen(worker, cwd=other, env=there, stderr=subprocess.DEVNULL) as second,
    ):
        try:
            done = _fleet(own, "--scheduler", address)
        finally:
            for one in (second, first):
                one.terminate()
    assert done.returncode == 1
    assert re.fullmatch("fleet: worker .* has other params or code than this checkout: .*\n", done.stderr)
