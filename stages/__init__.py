"""One script a stage of dvc.yaml: read, call lib, write. What all of them share stands here."""

import argparse
import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib.errors import BrickyardError

SCRATCH = Path(".scratch")  # what a killed run leaves for the next one; in no artifact, ignored by git

if TYPE_CHECKING:
    import torch

    from lib.params.run import Run


def run(main: Callable[..., None]) -> None:
    """Calls a stage's `main` with the options of the command line: one for each of its arguments."""
    stage = Path(inspect.getfile(main)).stem
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name, argument in inspect.signature(main).parameters.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=argument.annotation, metavar="PATH")
    with in_one_line(stage):
        main(**vars(parser.parse_args()))


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """What the user of the program `name` can mend, or has asked for, ends it with one line on standard error and exit
    code 1, or 130 after Ctrl-C.
    """
    try:
        yield
    except BrickyardError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"{name}: no space left on the disk; make room and run it again: what was made before is kept")
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run it again: what is finished is kept", file=sys.stderr)
        sys.exit(130)


def prepare(params: "Run") -> "torch.device":
    """Fixes what changes bits (threads, seed, deterministic kernels); returns the device BRICKYARD_DEVICE names."""
    import torch

    from lib import environment

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(params.threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without importing the compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(params.seed)
    return environment.device()
