"""A Python that has imported already what DVC and the stages import, which takes longer than what small stages do.

It holds no module of this repository: a fork of it imports those, so that code may change while it waits.
"""

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

STAGES = (
    *("torch", "timm.data", "safetensors.torch", "jaxtyping", "pydantic.type_adapter", "pydantic.dataclasses"),
    *("torch.fx.experimental.symbolic_shapes", "torch.utils.flop_counter", "torch.nn.utils.prune"),
    *("sklearn.datasets", "sklearn.model_selection", "scipy.optimize", "pyomo.environ", "highspy", "pandas"),
    *("jinja2", "matplotlib.figure", "matplotlib.backends.backend_svg"),
)
DVC = (
    *("dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.stage", "dvc.repo.open_repo", "dvc.repo.metrics", "dvc.scm"),
    *("dvc.repo.params", "dvc.repo.plots", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.stage.run", "dvc.cachemgr"),
    *("dvc.data_cloud", "dvc.rwlock", "dvc.utils.strictyaml", "dvc_data.hashfile.state", "dvc_data.hashfile.db.local"),
)
OURS, MODULES = ("stages", "commands", "dvc"), (*DVC, *STAGES)
PYTHON = '#!/bin/sh\nexec {python} -ISs {asking} {address} {ours} "$@"\n'


def begin(ours: Sequence[str] = OURS, modules: Sequence[str] = MODULES, first: int | None = None) -> Path:
    """A folder to be the first of PATH, with a program `python` that runs modules of `ours` in forks of a server.

    The server ends with this process, whatever ends that or takes its place, and the folder with it. If it ends too
    early, Python itself runs what is asked for.

    first: how many of `modules` it imports before it answers, once it is asked; the others while nothing is. None: it
    begins at once with all of them, and what is asked for meanwhile waits.
    """
    folder = Path(tempfile.mkdtemp(prefix="python"))
    address, here = folder / "server", Path(__file__).parent
    words = {"python": sys.executable, "asking": here / "asking.py", "address": address, "ours": ",".join(ours)}
    (folder / "python").write_text(PYTHON.format(**{key: shlex.quote(str(word)) for key, word in words.items()}))
    (folder / "python").chmod(0o755)
    command = [sys.executable, str(here / "server.py"), str(address), str(-1 if first is None else first), *modules]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
    atexit.register(_end, server, folder)
    assert server.stdin is not None
    assert server.stdout is not None
    os.set_inheritable(server.stdin.fileno(), True)  # by what takes this process's place
    server.stdout.readline()  # from now on it can be asked
    return folder


def possible() -> bool:
    """Whether there can be one: elsewhere than on Linux some libraries do not survive a fork."""
    return sys.platform == "linux"


def found() -> Path | None:
    """The folder of the program `python` that PATH names, where that is a warm one."""
    folder = Path(shutil.which("python") or "").parent
    return folder if (folder / "server").is_socket() else None


def _end(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)
