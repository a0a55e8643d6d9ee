"""Several processes: they know which they are, end together, and say why in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lib.base import environment, processes
from lib.base.code import ROOT
from lib.base.errors import BrickyardError


def _started(what: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.base.beside", what, str(folder)],
        cwd=ROOT,
        env=os.environ | {"BRICKYARD_PROCESSES": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _pids(folder: Path) -> dict[int, int]:
    """By rank."""
    names = (file.name.split() for file in folder.iterdir())
    return {int(rank): int(pid) for rank, pid in names}


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def _gone(pids: dict[int, int]) -> bool:
    until = time.monotonic() + 20
    while any(map(_is_running, pids.values())) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(_is_running, pids.values()))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("fine", ""),
        ("refused", "beside: the loss is not finite\n"),
        ("killed", "beside: process 2 of 3 was ended by SIGKILL; run it again: training goes on from its last epoch\n"),
        ("waited", "beside: process 2 of 3 was ended by SIGKILL; run it again: training goes on from its last epoch\n"),
        ("failed", "beside: process 2 of 3: no room\n"),
        ("bug", "beside: process 2 of 3: KeyError: 'bug'\n"),
    ],
)
def test_they_end_together_with_one_line(what: str, said: str, tmp_path: Path) -> None:
    first = _started(what, tmp_path)
    assert first.communicate(timeout=60) == ("", said)
    assert first.returncode == bool(said)
    pids = _pids(tmp_path)
    assert sorted(pids) == [0, 1, 2]
    assert pids[0] == first.pid
    assert _gone(pids)
    told = {rank: (tmp_path / f"{rank} {pid}").read_text().split() for rank, pid in pids.items()}
    assert {rank: one[:3] for rank, one in told.items()} == {rank: ["3", str(rank), "3"] for rank in range(3)}
    assert len({port for *_, port in told.values()}) == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_the_others_end_when_the_first_is_killed(tmp_path: Path) -> None:
    first = _started("orphaned", tmp_path)
    until = time.monotonic() + 60
    while len(_pids(tmp_path)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert len(_pids(tmp_path)) == 3
    assert _gone(_pids(tmp_path))


@pytest.fixture
def _third_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two on the second machine, as a launcher says it."""
    for name, number in {"RANK": 2, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(number))


@pytest.mark.usefixtures("_third_of_four")
def test_what_a_launcher_has_said_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRICKYARD_PROCESSES", "7")
    monkeypatch.setenv("BRICKYARD_MEMORY", "3")
    with processes.together("tests.base.beside"):
        said = processes.rank(), processes.count(), processes.local_rank(), processes.local_count()
    assert said == (2, 4, 0, 2)
    assert environment.memory() == 3 * 2**29


@pytest.mark.usefixtures("_third_of_four")
def test_each_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("BRICKYARD_DEVICE", "cpu")
    assert environment.device() == torch.device("cpu")
    for device, gpus, message in [
        ("cuda", 1, "2 processes on this machine: should be at most 1, one for each GPU"),
        ("cuda:1", 2, "BRICKYARD_DEVICE = 'cuda:1': should be cuda or cpu for several processes"),
        ("cuda", 0, "BRICKYARD_DEVICE = 'cuda': no such device here; should be cpu"),
        ("cuda", 2, "BRICKYARD_DEVICE = 'cuda:1': no such device here; should be cpu or cuda:0 or cuda:1"),
    ]:
        monkeypatch.setenv("BRICKYARD_DEVICE", device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        if torch.cuda.is_available() and "no such device" in message:
            continue
        with pytest.raises(BrickyardError, match=f"^{message}$"):
            environment.device()


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5", "99999"])
def test_a_number_of_processes_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRICKYARD_PROCESSES", text)
    with (
        pytest.raises(BrickyardError, match=rf"^BRICKYARD_PROCESSES = '{text}': should be a number of processes, 1 or"),
        processes.together("tests.base.beside"),
    ):
        pass
