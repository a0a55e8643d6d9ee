"""What the environment says, and one line for what it cannot mean."""

import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from lib.base import environment
from lib.base.errors import BrickyardError


def test_values_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMORY", "WORKERS", "DEVICE"):
        monkeypatch.delenv(f"BRICKYARD_{name}", raising=False)
    assert environment.memory() == 2 * 2**30
    assert environment.workers() == 0
    assert environment.device() == torch.device("cpu")
    monkeypatch.setenv("BRICKYARD_MEMORY", "0.5")
    monkeypatch.setenv("BRICKYARD_WORKERS", "3")
    assert environment.memory() == 2**29
    assert environment.workers() == 3


@pytest.mark.parametrize(
    ("name", "texts", "read"),
    [
        ("MEMORY", ["", "much", "-1", "nan", "inf", "2 GB"], environment.memory),
        ("WORKERS", ["", "two", "-1", "1.5"], environment.workers),
        ("DEVICE", ["", "gpu", "cuda:99"], environment.device),
    ],
)
def test_nonsense_is_one_line_that_says_what_would_be_right(
    name: str, texts: list[str], read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in texts:
        monkeypatch.setenv(f"BRICKYARD_{name}", text)
        with pytest.raises(BrickyardError, match=rf"^BRICKYARD_{name} = '{text}': .*should be .*$"):
            read()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_memory_is_found_once() -> None:
    """Pages that the system has to give while results of 24 MiB are made and freed."""
    script = (
        "import resource, sys, torch; from lib.base import environment; sys.argv[1:] and environment.keep_memory()\n"
        "def pages(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(times): [[torch.ones(6 * 2**20) for _ in range(4)] for _ in range(times)]\n"
        "work(2); before = pages(); work(20); print(pages() - before)"
    )
    without, kept = (
        int(subprocess.run([sys.executable, "-c", script, *given], capture_output=True, text=True, check=True).stdout)
        for given in ([], ["kept"])
    )
    assert kept < without / 10
