"""The weights of a network on disk: read whole, compared with what describes them, put in place one by one."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..base import artifacts
from ..base.errors import BrickyardError
from ..trace.cost import Cost, params, without_data
from . import checkpoint


def read_weights(file: Path, checksum: str) -> dict[str, torch.Tensor]:
    """The tensors of a file of `artifacts.write_tensors`; checksum: what the JSON beside it says of them.

    Raises BrickyardError where the file is missing or damaged, belongs to another network, or holds NaN.
    """
    tensors = artifacts.read_tensors(file)
    if artifacts.tensor_checksum(tensors) != checksum:
        raise BrickyardError(f"{file} does not belong to the JSON beside it; dvc repro the stage again")
    checkpoint.check_finite(tensors, file)
    return tensors


def fill(model: nn.Module, tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Puts every tensor of `file` into the model. Raises BrickyardError naming what is missing, unknown or unlike."""
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            raise BrickyardError(f"{file}: {name} is {tensor.dtype} there and {own[name].dtype} here")
    for name in own:
        if name not in tensors:
            raise BrickyardError(f"{file} leaves {name} unfilled; is it of another architecture?")
    checkpoint.fill(model, tensors, file)


def check_params(model: nn.Module, stored: Cost) -> None:
    """Raises BrickyardError unless the network has as many parameters as its file says."""
    if params(model) != stored.params:
        raise BrickyardError(f"cost.params = {stored.params}, but the network has {params(model)}; dvc repro")


def logits_of(model: nn.Module, shape: tuple[int, ...]) -> int | None:
    """How many logits the network gives for an image of `shape`; None where that cannot be told without computing.

    Raises BrickyardError where what it gives is not one row an image.
    """
    try:
        with without_data(model):
            logits = model.eval()(torch.zeros(1, *shape, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        if "meta" in str(error):
            return None
        raise BrickyardError(f"the network fails on its own images: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise BrickyardError("the network gives no row of logits")
    return logits.shape[1]


def named(file: Path, error: BrickyardError) -> BrickyardError:
    """An error that names the file, or the folder of both, in front."""
    return error if str(error).startswith(str(file.parent)) else BrickyardError(f"{file}: {error}")
