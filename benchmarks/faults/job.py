"""A job of pico networks in a folder of its own: the whole pipeline through DVC, in about a minute."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lib.base.code import ROOT

_LOOK = 0.05  # seconds between two looks at a process
_CUT_SHORT = ("'./dvc.lock' validation failed", "RWLock-file")  # how DVC names files of its own
_COPIED = ("lib", "stages", "commands", "data", "tests")


class Job:
    """A checkout with the pico parameters of the tests, below `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._groups: list[int] = []
        for name in _COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "versions.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copy(ROOT / "tests" / "stages" / "pico.yaml", folder / "params.yaml")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        self.dvc("init", "-q")
        self.dvc("config", "core.analytics", "false")

    def dvc(self, *arguments: str) -> str:
        """What DVC prints; raises RuntimeError with its last lines where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"dvc {' '.join(arguments)}: {(done.stdout + done.stderr)[-1500:]}")
        return done.stdout

    def repro(self) -> None:
        """`dvc repro`; first what `commands.heal` says, where DVC cannot read its own files, which it writes in place.

        Raises RuntimeError where that does not help.
        """
        try:
            self.dvc("repro")
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _CUT_SHORT):
                raise
            code, line = self.run("commands.heal")
            if code:
                if not line.startswith("heal: dvc.lock cannot be read"):
                    raise RuntimeError(f"commands.heal: {line}") from error
                (self.folder / "dvc.lock").unlink()
            self.dvc("repro")

    def run(self, module: str, *arguments: str) -> tuple[int, str]:
        """Exit code and standard error of a program of the checkout."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    def lock(self) -> dict[str, Any]:
        """The stages of dvc.lock."""
        return YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]

    def repro_killed(self, *arguments: str, after: float, whom: str) -> bool:
        """`dvc repro` with kill -9 after some seconds: of the `stage` that runs, of `dvc`, or of `both`.

        Whether anything was killed: False where the run was quicker.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + after
        while time.monotonic() < until and process.poll() is None:
            time.sleep(_LOOK)
        victims: list[int] = []
        while not victims and process.poll() is None:  # a stage may not have begun
            victims = [pid for pid in _group(process.pid) if whom == "both" or (whom == "dvc") == (pid == process.pid)]
            time.sleep(_LOOK * (not victims))
        for pid in victims:
            _kill(pid)
        process.wait()
        self._groups.append(process.pid)
        return bool(victims)

    def settle(self) -> None:
        """Waits for stages whose DVC was killed."""
        while any(_group(leader) for leader in self._groups):
            time.sleep(_LOOK)
        self._groups.clear()

    @property
    def cache(self) -> Path:
        """Where DVC keeps objects, by their MD5."""
        return self.folder / ".dvc" / "cache" / "files" / "md5"

    @property
    def files(self) -> list[Path]:
        """All files below artifacts/, in order."""
        return sorted(path for path in (self.folder / "artifacts").rglob("*") if path.is_file())


def _group(leader: int) -> list[int]:
    """The processes that a process started, directly or not, and itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has just ended
        if int(group) == leader and state != "Z":
            found.append(int(entry.parent.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has just ended
