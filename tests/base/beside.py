"""What tests/base/test_processes.py runs in several processes: each does what its argument says it should."""

import os
import signal
import sys
import time
from pathlib import Path

from lib.base import processes
from lib.base.errors import BrickyardError
from stages import in_one_line


def main(what: str, folder: Path) -> None:
    """Leaves its number; then some fail."""
    rank = processes.rank()
    told = (processes.count(), processes.local_rank(), processes.local_count(), os.environ["MASTER_PORT"])
    (folder / f"{rank} {os.getpid()}").write_text(" ".join(map(str, told)))
    while len(list(folder.iterdir())) < processes.count():
        time.sleep(0.01)
    if what == "refused":
        raise BrickyardError("the loss is not finite")
    if rank == 1:
        if what in ("killed", "waited"):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "failed":
            raise BrickyardError("no room")
        if what == "bug":
            raise KeyError("bug")
    if what == "waited" and rank == 0:
        processes.GRACE = 0.1
    if what in ("waited", "orphaned") or (what != "fine" and rank == 2):
        time.sleep(100)
    if what in ("killed", "failed", "bug") and rank == 0:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")


if __name__ == "__main__":
    with in_one_line("beside"), processes.together("tests.base.beside"):
        main(sys.argv[1], Path(sys.argv[2]))
