"""Kills, full disks, damage and odd places: the next repro ends with the same hashes as if nothing had been."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import preloaded, thinned
from tests.stages.conftest import dvc

pytestmark = pytest.mark.timeout(900)
QUICK = "partition"  # a stage of a second or two


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "é repo", symlinks=True))


def _state(repo: Path) -> dict[str, bytes]:
    """All that must be the same in the end."""
    found = [repo / "dvc.lock", *(repo / "artifacts").rglob("*"), *(repo / "metrics").rglob("*")]
    return {str(file.relative_to(repo)): file.read_bytes() for file in sorted(found) if _ours(file)}


def _ours(file: Path) -> bool:
    return file.is_file() and file.name != ".gitignore"  # which DVC writes where it runs a stage


def _begun(repo: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "dvc", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=repo, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def _stage_of(running: "subprocess.Popen[str]") -> psutil.Process:
    """The process of the stage that DVC has started; waits until there is one."""
    for _ in range(2000):
        for child in psutil.Process(running.pid).children(recursive=True):
            if any(word.startswith("stages.") for word in child.cmdline()):
                return child
        time.sleep(0.01)
    raise AssertionError("no stage was started")


def _killed(repo: Path, who: str, wait: float, *arguments: str) -> None:
    """Runs DVC and kills the stage, DVC or both, `wait` seconds after the first stage has begun."""
    running = _begun(repo, *arguments)
    stage = _stage_of(running)
    time.sleep(wait)
    if who in ("dvc", "both"):
        running.kill()
    with suppress(psutil.NoSuchProcess):  # it has ended by itself
        if who in ("stage", "both"):
            stage.kill()
        stage.wait(300)
    running.communicate(timeout=300)


def _made_again(repo: Path) -> None:
    """By `dvc repro`; by what `commands.heal` does and says first, where DVC's own files have been cut short."""
    done = dvc(repo, "repro", check=False)
    if done.returncode == 0:
        return
    assert "'./dvc.lock' validation failed" in done.stderr or "RWLock-file" in done.stderr, done.stderr
    healed = preloaded.run(repo, "commands.heal")
    if healed.returncode:
        assert healed.stderr.startswith("heal: dvc.lock cannot be read"), healed.stderr
        (repo / "dvc.lock").unlink()
    dvc(repo, "repro")


@pytest.mark.parametrize("who", thinned(["both", "stage", "dvc"], 3))
def test_what_is_killed_is_made_again_with_the_same_hashes(repo: Path, who: str) -> None:
    before = _state(repo)
    _killed(repo, who, 0.3, "repro", "-f", "-s", QUICK)
    dvc(repo, "repro", QUICK)
    assert _state(repo) == before


@pytest.mark.slow
def test_edges_that_are_killed_half_way_find_their_pairs_again(repo: Path) -> None:
    """What lies in .scratch then is not written again, and what comes out is the same."""
    before, kept = _state(repo), repo / ".scratch/edges"
    shutil.rmtree(kept)
    command = [sys.executable, "-m", "stages.edges", "--dataset", "artifacts/dataset", "--zoo", "artifacts/zoo"]
    command += ["--partition", "artifacts/partition/partition.json", "--model", "low"]
    command += ["--out", "again", "--metrics", "again.json"]
    running = subprocess.Popen(command, cwd=repo)
    while not list(kept.glob("*.safetensors")) and running.poll() is None:
        time.sleep(0.001)
    running.kill()
    assert running.wait(60) == -signal.SIGKILL
    first = {file.name: file.stat().st_ino for file in kept.glob("*.safetensors")}
    subprocess.run(command, cwd=repo, check=True)
    assert len(list(kept.glob("*.safetensors"))) == 2 > len(first) > 0
    assert all((kept / name).stat().st_ino == number for name, number in first.items())
    for file in ("edges.json", "edges.safetensors"):
        assert (repo / "again" / file).read_bytes() == before[f"artifacts/edges/low/{file}"]


@pytest.mark.slow
def test_fifty_random_kills_heal(repo: Path) -> None:
    before, drawn = _state(repo), random.Random(0)
    names = ["dataset", "zoo@low", "activations@low", "similarity", QUICK, "edges@low"]
    names += ["assembly", "finetune@1", "contributions@low", "components@low", "lego", "report"]
    for _ in range(50):
        who, wait = drawn.choice(["stage", "dvc", "both"]), drawn.uniform(0, 4)
        _killed(repo, who, wait, "repro", "-f", "-s", drawn.choice(names))
        _made_again(repo)
        assert _state(repo) == before


def test_two_repros_at_once_do_not_mix(repo: Path) -> None:
    before = _state(repo)
    first = _begun(repo, "repro", "-f", "-s", QUICK)
    _stage_of(first)
    second = dvc(repo, "repro", "-f", "-s", QUICK, check=False)
    assert second.returncode != 0
    assert "busy" in second.stderr
    assert first.wait(300) == 0
    assert _state(repo) == before


def test_an_edited_metric_is_made_again(repo: Path) -> None:
    """Metrics carry no checksum of their own: DVC has it."""
    before = _state(repo)
    file = repo / "metrics/partition/partition.json"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    dvc(repo, "repro", QUICK)
    assert _state(repo) == before


@pytest.mark.slow
def test_damage_in_workspace_and_cache_is_named_and_healed(repo: Path) -> None:
    before = _state(repo)
    file = repo / "artifacts/similarity/nodes.json"
    content = file.read_bytes()
    (kept,) = (one for one in (repo / ".dvc/cache/files").rglob("*") if one.is_file() and one.read_bytes() == content)
    flipped = bytes([*content[:40], content[40] ^ 2, *content[41:]])
    for place in (file, kept):
        place.chmod(0o644)
        place.write_bytes(flipped)
        place.chmod(0o444)
    done = dvc(repo, "repro", "-f", "-s", QUICK, check=False)
    assert "artifacts/similarity/nodes.json is " in done.stderr
    assert done.stderr.count("./run python -m commands.heal") == 1
    assert "Traceback" not in done.stderr
    healed = preloaded.run(repo, "commands.heal")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert "got back: artifacts/similarity" in healed.stdout
    dvc(repo, "repro")
    assert _state(repo) == before
    assert kept.read_bytes() == content


@pytest.mark.slow
def test_locks_of_dvc_that_are_cut_short_are_removed(repo: Path) -> None:
    before, locks = _state(repo), repo / ".dvc/tmp/rwlock"
    locks.write_text('{"artifacts/dataset": {"read": [{"pid": 1, "cmd": "dvc re')
    told = preloaded.run(repo, "commands.heal", "--dry")
    assert told.returncode == 1
    assert ".dvc/tmp/rwlock is damaged\n" in told.stdout
    assert told.stderr == "heal: 1 files are damaged: ./run python -m commands.heal\n"
    healed = preloaded.run(repo, "commands.heal")
    assert healed.returncode == 0, healed.stderr
    assert healed.stdout.endswith(".dvc/tmp/rwlock is damaged: removed\nnothing else is damaged\n")
    dvc(repo, "repro", QUICK)
    assert _state(repo) == before


def test_a_symlinked_checkout_is_the_same(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repo)
    assert "Running stage" not in dvc(tmp_path / "link", "repro").stdout


@pytest.mark.slow
def test_a_worktree_with_the_others_cache_makes_nothing(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "main").symlink_to(repo)  # DVC writes ASCII alone into its config
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["add", "-A"], [*who, "commit", "-qm", "made"], ["worktree", "add", "-q", tmp_path / "tree"]):
        subprocess.run(["git", *arguments], cwd=repo, check=True)
    dvc(tmp_path / "tree", "cache", "dir", "--local", str(tmp_path / "main/.dvc/cache"))
    dvc(tmp_path / "tree", "checkout")
    assert "Running stage" not in dvc(tmp_path / "tree", "repro").stdout
    assert _state(tmp_path / "tree") == _state(repo)


@pytest.mark.slow
def test_a_lock_with_conflicts_is_removed_and_made_from_the_run_cache(repo: Path) -> None:
    before = _state(repo)
    (repo / "dvc.lock").write_text("<<<<<<< HEAD\n" + (repo / "dvc.lock").read_text())
    assert dvc(repo, "repro", check=False).returncode != 0
    told = preloaded.run(repo, "commands.heal")
    assert told.stderr.startswith(
        "heal: dvc.lock cannot be read, as after a merge with conflicts: remove it and dvc repro"
    )
    (repo / "dvc.lock").unlink()
    assert "Running stage" not in dvc(repo, "repro").stdout
    assert _state(repo) == before


@pytest.mark.slow
def test_forced_with_workers_the_bits_are_the_same(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _state(repo)
    monkeypatch.setenv("BRICKYARD_WORKERS", "2")
    monkeypatch.setenv("BRICKYARD_MEMORY", "0")
    dvc(repo, "repro", "--force", "activations@low", "activations@residual")
    assert _state(repo) == before


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


@pytest.mark.slow
def test_a_limit_on_files_is_one_line_and_nothing_is_half_written(repo: Path) -> None:
    before = _state(repo)
    out, metrics = repo / "artifacts/similarity", "metrics/similarity/similarity.json"
    command = [sys.executable, "-m", "stages.similarity", "--activations", "artifacts/activations"]
    command += ["--out", "artifacts/similarity", "--metrics", metrics]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False, preexec_fn=_limit)
    assert done.returncode == 1
    assert done.stderr.startswith("similarity: artifacts/similarity/")
    assert done.stderr.endswith(": File too large; raise the limit on the size of a file and run it again\n")
    assert done.stderr.count("\n") == 1
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    dvc(repo, "repro")
    assert _state(repo) == before


@pytest.fixture
def on_a_small_disk(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The checkout on a disk of 16 MiB that is full but for a few KiB."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "small", tmp_path]).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [QUICK, "similarity", "zoo@low"])
def test_a_full_disk_is_told_and_heals(on_a_small_disk: Path, stage: str) -> None:
    repo, free = on_a_small_disk, _free(on_a_small_disk)
    before = _state(repo)
    (repo / "filled").write_bytes(bytes(free() - 8192))
    done = dvc(repo, "repro", "-f", "-s", stage, check=False)
    assert done.returncode != 0
    assert "No space left on device" in done.stdout + done.stderr or "RWLock-file" in done.stderr
    assert "Traceback" not in done.stderr
    (repo / "filled").unlink()
    _made_again(repo)
    assert _state(repo) == before


def _free(folder: Path) -> Callable[[], int]:
    return lambda: shutil.disk_usage(folder).free


@pytest.mark.slow
def test_ctrl_c_stops_both_and_the_next_run_is_whole(repo: Path) -> None:
    before = _state(repo)
    running = _begun(repo, "repro", "-f", "-s", QUICK)
    _stage_of(running)
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=300)
    dvc(repo, "repro", QUICK)
    assert _state(repo) == before


@pytest.mark.parametrize("name", ["l; touch marker; true", "$(touch marker)", "l'; touch marker; '"])
def test_a_name_is_never_run_by_a_shell(repo: Path, name: str) -> None:
    params = (repo / "params.yaml").read_text()
    (repo / "params.yaml").write_text(params.replace("    low:\n      factory", f'    "{name}":\n      factory', 1))
    done = dvc(repo, "repro", "-s", f"zoo@{name}", check=False)
    assert done.returncode != 0
    assert "a name has letters, digits, _ and - only" in done.stderr
    assert not (repo / "marker").exists()
