"""A fleet does what `dvc repro` does, side by side, and goes on where a stage fails or a worker is lost."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

import pytest
from distributed import Client
from distributed.system import MEMORY_LIMIT
from ruamel.yaml import YAML

from commands.fleet import __main__ as fleet
from commands.fleet import board, clusters, crowding, foretold
from commands.fleet.foretold import Foretold
from commands.fleet.stages import Stage, to_run, weights
from lib.base import artifacts
from lib.base.code import ROOT
from tests import preloaded

KILL = """
import os, psutil
for process in psutil.process_iter(["cmdline"]):
    words = process.info["cmdline"] or []
    if any(word.endswith("ending.py") for word in words) and words[-1] == "left" and process.cwd() == os.getcwd():
        worker = process.parent()
        if worker and any("multiprocessing" in word for word in worker.cmdline()):  # Dask has begun it so
            worker.kill()
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


@contextmanager
def _workers(*folders: Path) -> Iterator[str]:
    """A scheduler, and a worker in each of these folders; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    there = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{preloaded.folder()}{os.pathsep}{os.environ['PATH']}"}
    commands = [(folders[0], "--serve"), *((folder, "--join") for folder in folders)]
    with ExitStack() as ended:
        for folder, how in commands:
            command = [sys.executable, "-m", "commands.fleet", how, address]
            begun = subprocess.Popen(command, cwd=folder, env=there, stderr=subprocess.DEVNULL)
            ended.enter_context(begun)
            ended.callback(begun.terminate)
        yield address


@pytest.mark.slow
def test_a_worker_with_other_params_is_refused(tmp_path: Path) -> None:
    own, other = (_project(tmp_path / name, STAGES) for name in ("own", "other"))
    (other / "params.yaml").write_text("x: 2\n")
    with _workers(other) as address:
        done = _fleet(own, "--scheduler", address)
    assert done.returncode == 1
    assert re.fullmatch("fleet: worker .* has other params or code than this checkout: .*\n", done.stderr)


@pytest.mark.slow
def test_workers_in_the_folder_and_in_a_clone_make_it_together(tmp_path: Path) -> None:
    """Without a remote they are refused; a failure costs what follows it alone."""
    own, serial = (_project(tmp_path / name, STAGES) for name in ("own", "serial"))
    for repo in (own, serial):
        (repo / "begun").write_text("x\n")  # no worker is killed
    other = Path(shutil.copytree(own, tmp_path / "other"))
    with _workers(other, own) as address:
        with Client(address) as client:
            client.wait_for_workers(2, 60)
        done = _fleet(own, "--scheduler", address)
        assert done.stderr.startswith("fleet: workers have folders of their own, and there is no default remote ")
        for repo in (own, other):
            _dvc(repo, "remote", "add", "-d", "shared", str(tmp_path / "remote"))
        done = _fleet(own, "--scheduler", address)
    assert done.stderr == "fleet: 1 of 6 stages failed: wrong\n"
    assert "behind: not run, it follows wrong that failed" in done.stdout
    for repo in (own, serial):
        (repo / "dvc.yaml").write_text(STAGES[: STAGES.index("  wrong")])
    _dvc(serial, "repro")
    lock, other = (YAML(typ="safe").load(repo / "dvc.lock") for repo in (own, serial))
    assert lock["stages"] == other["stages"]
    assert _dvc(own, "status", "--json").strip() == "{}"
    assert sorted(path.name for path in (tmp_path / "remote").iterdir()) == ["files", "fleet", "runs"]


@pytest.mark.slow
def test_a_worker_that_comes_late_and_is_of_no_use_leaves(tmp_path: Path) -> None:
    stages = STAGES[: STAGES.index("  left")] + "".join(
        f"  {name}: {{cmd: sleep 6; cat first >{name}, deps: [first], outs: [{name}]}}\n" for name in "abcd"
    )
    own = _project(tmp_path / "own", stages)
    other = Path(shutil.copytree(own, tmp_path / "other"))
    with _workers(own) as address, ThreadPoolExecutor() as beside:
        running = beside.submit(_fleet, own, "--scheduler", address)
        while not (own / "first").exists():
            assert not running.done()
            time.sleep(0.1)
        command = [sys.executable, "-m", "commands.fleet", "--join", address]
        there = {**os.environ, "PYTHONPATH": str(ROOT)}
        late = subprocess.Popen(command, cwd=other, env=there, stderr=subprocess.DEVNULL)
        done = running.result()
        assert late.wait(60) == 0
    assert done.returncode == 0, done.stderr
    assert re.search("worker .* has left: it has a folder of its own, and the others share this one\n", done.stdout)


@pytest.mark.slow
def test_stages_that_need_much_memory_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "echo $(date +%s%N) >>{name}; sleep 2; echo $(date +%s%N) >>{name}"
    names = ["one", "two", "small"]
    stages = "stages:\n" + "".join(f'  {name}: {{cmd: "{run.format(name=name)}", outs: [{name}]}}\n' for name in names)
    repo = _project(tmp_path / "project", stages)
    said = list[str]()
    monkeypatch.setattr(board, "say", said.append)
    with chdir(repo), clusters.local(3) as client:
        memory = {"one": MEMORY_LIMIT * 6 // 10, "two": MEMORY_LIMIT * 2}
        fleet.main(client, to_run([]), lambda: Foretold({}, memory))
    assert said[0].startswith("two may need ")
    spans = {name: [int(line) for line in (repo / name).read_text().split()] for name in names}
    first, second = sorted([spans["one"], spans["two"]])
    assert first[1] < second[0]
    assert spans["small"][0] < first[1]


@pytest.mark.slow
def test_each_stage_that_uses_a_gpu_has_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "echo $CUDA_VISIBLE_DEVICES $(date +%s%N) >{name}; sleep 2; date +%s%N >>{name}"
    stages = "stages:\n  zoo:\n    foreach: [a, b, c]\n"
    stages += "    do: {cmd: '" + run.format(name="${item}") + "', outs: ['${item}']}\n"
    stages += "  other: {cmd: 'echo $CUDA_VISIBLE_DEVICES >other', outs: [other]}\n"
    repo = _project(tmp_path / "project", stages)
    monkeypatch.setattr(clusters, "devices", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with chdir(repo), clusters.local(4) as client:
        fleet.main(client, to_run([]), Foretold)
    spans = [tuple(map(int, (repo / name).read_text().split())) for name in "abc"]
    assert {device for device, _, _ in spans} == {0, 1}
    assert min(ended for _, _, ended in spans) < max(began for _, began, _ in spans), "two at a time"
    (same,) = ((one, other) for i, one in enumerate(spans) for other in spans[:i] if one[0] == other[0])
    assert not (same[0][1] < same[1][2] and same[1][1] < same[0][2])
    assert (repo / "other").read_text() == "\n"


@pytest.mark.slow
def test_a_stage_that_no_worker_survives_has_failed(tmp_path: Path) -> None:
    repo = _project(
        tmp_path / "project", STAGES[: STAGES.index("  wrong")].replace("test $(wc -l <begun) -gt 1", "false")
    )
    done = _fleet(repo)
    assert done.stderr == "fleet: 1 of 4 stages failed: left\n", done.stdout
    assert "left: failed: its worker was lost 4 times\n" in done.stdout
    assert "both: not run, it follows left that failed\n" in done.stdout
    assert (repo / "right").exists()


@pytest.mark.parametrize(("stages", "cpus", "crowded"), [(2, 2, True), (1, 2, False), (2, 4, False), (3, 4, True)])
def test_threads_that_are_more_than_cpus_sleep_while_they_wait(
    stages: int, cpus: int, crowded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(crowding.POLICY, raising=False)
    params = tmp_path / "params.yaml"
    params.write_text("run: {threads: 2}\n")
    assert crowding.policy(stages, cpus, params) == ({"OMP_WAIT_POLICY": "PASSIVE"} if crowded else {})
    monkeypatch.setenv(crowding.POLICY, "ACTIVE")
    assert crowding.policy(stages, cpus, params) == {}, "as the user has it"
    assert crowding.policy(stages, cpus, tmp_path / "none") == {}


def test_where_nothing_is_foretold_a_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(foretold.warm, "found", lambda: None)
    (tmp_path / "params.yaml").write_text("run: {seed: -1, threads: 1}\n")
    with foretold.asked([Stage("zoo@a", ())]) as answer:
        assert answer() == Foretold()
    told = capsys.readouterr().out
    assert "nothing is foretold of what stages need: plan: params.yaml: " in told
    assert told.count("\n") == 1
