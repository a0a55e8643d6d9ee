"""Checkpoints as people have them: every kind of file, and whether it must fill a network or be refused by a line."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.faults.checkpoint_contents import SEED, UNFIT, WRAPPED
from benchmarks.faults.checkpoint_files import FILES, MARKER, NETWORKS, Case, saved
from lib.base.errors import BrickyardError
from lib.zoo import checkpoint


def cases() -> Iterator[Case]:
    """All of them."""
    for name, content, told in WRAPPED:
        yield Case(name, saved(content), "filled", told)
    for name, content, line in UNFIT:
        yield Case(name, saved(content), "refused", line)
    yield from NETWORKS
    yield from FILES


def fault(case: Case, folder: Path) -> str | None:
    """What is wrong with how a case is answered, in words; None when it is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about what it no longer recommends
        path, network, right = case.make(folder), case.network(0), case.network(SEED).state_dict()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    told, line = "", None
    try:
        told = str(checkpoint.fill(network, checkpoint.read(path), path))
    except BrickyardError as error:
        line = str(error)
    except Exception as error:  # this is what is looked for
        return f"traceback {type(error).__name__}: {error}"
    after = network.state_dict()
    if (folder / MARKER).exists():
        return "code of the checkpoint has run"
    if line is None and case.expectation == "refused":
        return f"filled ({told})"
    if line is None:
        wrong = [name for name, tensor in right.items() if not torch.allclose(after[name], tensor, atol=4e-3)]
        if wrong:
            return f"filled, but {wrong[0]} is wrong"
    elif case.expectation == "filled":
        return line
    elif len(line.splitlines()) != 1 or "\x1b" in line or path.name not in line:
        return f"not one line that names the file: {line!r}"
    elif any(not torch.equal(after[name], tensor) for name, tensor in before.items()):
        return "refused, but the network has changed"
    said = told if line is None else line
    return None if case.fragment in said else f"{case.fragment!r} is not in {said!r}"
