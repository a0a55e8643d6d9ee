"""One script a stage of dvc.yaml: read, call lib, write. What all of them share stands here."""

import argparse
import errno
import gc
import importlib
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from lib.base import halving, processes, versions
from lib.base.errors import BrickyardError

BEGAN = time.monotonic()
SCRATCH = Path(".scratch")  # what a killed run leaves for the next one; in no artifact, ignored by git

if TYPE_CHECKING:
    import torch

    from lib.params.run import Run


def run(main: Callable[..., None], several: bool = False) -> None:
    """Calls a stage's `main` with the options of the command line: one for each of its arguments.

    `{item}` in them stands for the item of the stage that DVC runs. DVC would paste its name into the command, where a
    shell would run what it holds; so it is taken from the environment, and looked at, here.

    several: whether it trains, and may do so in several processes, of which the first alone writes.
    """
    stage = Path(inspect.getfile(main)).stem
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=main.__doc__)
    kinds = {name: argument.annotation for name, argument in inspect.signature(main).parameters.items()}
    for name in kinds:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, metavar="PATH")
    given = vars(parser.parse_args())
    with in_one_line(stage):
        versions.check()
        if processes.count() > 1 and not several:
            raise BrickyardError("runs in one process; start it without a launcher")
        paths = {name: text.replace("{item}", _item()) if "{item}" in text else text for name, text in given.items()}
        with processes.together(f"stages.{stage}") if several else nullcontext():
            _halving(stage, lambda: main(**{name: kinds[name](text) for name, text in paths.items()}))
            processes.leave()
        if processes.rank() == 0:
            _note(Path(paths.get("dataset", paths.get("out", "")), "card.json"))


def _halving(stage: str, main: Callable[[], None]) -> None:
    """Begins again with half the images in a batch, as often as memory does not suffice, and says so.

    Several processes go on together or not at all.
    """
    while True:
        try:
            return main()
        except (MemoryError, RuntimeError) as error:
            halved = halving.halve() if halving.wanting(error) and processes.count() == 1 else None
            if halved is None:
                raise
        had, now = halved
        print(f"{stage}: not enough memory for batches of {had} images; goes on with batches of {now}", file=sys.stderr)
        gc.collect()  # what the error held
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _note(card: Path) -> None:
    """Keeps what the stage that DVC runs has taken, for `commands.plan`; card: of the images, if there is one.

    By name: no result depends on it. Of params.yaml, what the stage has read itself.
    """
    usage: Any = importlib.import_module("lib.base.usage")
    params: Any = sys.modules.get("lib.params.base")
    values = {} if params is None else params.load().values
    usage.note(SCRATCH / "usage", os.environ.get("DVC_STAGE", ""), time.monotonic() - BEGAN, values, card)


def _item() -> str:
    """Of the stage that DVC runs: what follows the @ in its name."""
    _, at, item = os.environ.get("DVC_STAGE", "").partition("@")
    if not at:
        raise BrickyardError("{item} stands for the item of the stage that `dvc repro` runs; write its name instead")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", item):
        raise BrickyardError(f"params.yaml: {item!r}: a name has letters, digits, _ and - only")
    return item


MENDED = {  # what a user does about an error of the system
    errno.ENOSPC: "make room and run it again",
    errno.EDQUOT: "make room and run it again",
    errno.EACCES: "give yourself the right to it and run it again",
    errno.EPERM: "give yourself the right to it and run it again",
    errno.EROFS: "make it writable and run it again",
    errno.EISDIR: "a folder lies where a file should be: move it away and run it again",
    errno.EEXIST: "a file lies where a folder should be: move it away and run it again",
    errno.ENOTDIR: "a file lies where a folder should be: move it away and run it again",
    errno.EFBIG: "raise the limit on the size of a file and run it again",
    errno.EMFILE: "raise the limit on open files and run it again",
}


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """What the user of the program `name` can mend, or has asked for, ends it with one line on standard error and exit
    code 1, or 130 after Ctrl-C, 141 when nobody reads its output any more.
    """
    try:
        yield
        sys.stdout.flush()
    except BrickyardError as error:
        _end(f"{name}: {error}", 1)
    except BrokenPipeError:
        _end(f"{name}: stopped: its output was closed", 141)
    except OSError as error:
        _end(f"{name}: {_told(error)}", 1)
    except RecursionError:
        _end(f"{name}: something that it was given is nested too deeply", 1)
    except (MemoryError, RuntimeError) as error:
        if not halving.wanting(error):
            raise
        little, batches = (" for a single image", "") if halving.single() else ("", "batch sizes and ")
        _end(f"{name}: not enough memory{little}; free some, or lower {batches}BRICKYARD_MEMORY, and run it again", 1)
    except KeyboardInterrupt:
        _end(f"{name}: interrupted; run it again", 130)


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while modules are being imported is no traceback either."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run it again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _unhandled


def _told(error: OSError) -> str:
    """The file, what is the matter with it and what to do about it."""
    if error.errno is None:
        return " ".join(f"{type(error).__name__}: {error}".split())
    about = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    mended = MENDED.get(error.errno)
    return " ".join(f"{about}{os.strerror(error.errno)}{f'; {mended}' if mended else ''}".split())


def _end(line: str, code: int) -> NoReturn:
    """Ends the program; what waits to be printed is dropped if it cannot be, which Python would tell at length."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(line, file=sys.stderr)
    sys.exit(code)


def prepare(params: "Run") -> "torch.device":
    """Fixes what changes bits (threads, seed, deterministic kernels), and how memory is found; returns the device that
    BRICKYARD_DEVICE names.
    """
    import torch

    from lib.base import environment

    environment.keep_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(params.threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without importing the compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(params.seed)
    return environment.device()
