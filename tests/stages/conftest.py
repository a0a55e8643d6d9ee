"""The pico job, made once for all files of this folder, whichever process of pytest comes first."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from lib.base.code import ROOT
from tests import preloaded


def dvc(repo: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Neither DVC nor its stages import what they need."""
    done = preloaded.run(repo, "dvc", *arguments)
    assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with pico params and everything made, and in `made.txt` what DVC said; to be copied, not changed."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if shared.name.startswith("popen-") else shared
    repo = shared / "a checkout, é"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (repo / "made.txt").exists():
            shutil.rmtree(repo, ignore_errors=True)
            for name in ("lib", "stages", "commands", "data", "tests"):
                shutil.copytree(ROOT / name, repo / name, ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("dvc.yaml", "versions.yaml", ".gitignore", ".dvcignore"):
                shutil.copy(ROOT / name, repo / name)
            shutil.copy(ROOT / "tests" / "stages" / "pico.yaml", repo / "params.yaml")
            subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
            dvc(repo, "init", "-q")
            (repo / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
            (repo / "made.txt").write_text(dvc(repo, "repro").stdout)
    return repo
