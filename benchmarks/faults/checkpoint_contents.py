"""What is in checkpoints: wrappings that must be taken off, and what does not fit or is no weight."""

import argparse
import collections
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.faults import weighted

SEED = 5  # of the weights in the files
State = dict[str, torch.Tensor]


class Unknown:
    """A class of somebody's own."""


def state(seed: int = SEED) -> State:
    """Of `weighted.plain`."""
    return dict(weighted.plain(seed).state_dict())


def _before(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _middle(wrapper: str, tensors: State) -> State:
    """A wrapper around the module `head` alone."""
    return {name.replace("head.", f"head.{wrapper}"): tensor for name, tensor in tensors.items()}


def each(change: Callable[[torch.Tensor], torch.Tensor], tensors: State) -> State:
    """Every floating tensor changed."""
    return {name: change(tensor) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _averaged(_: State) -> Any:
    return torch.optim.swa_utils.AveragedModel(weighted.plain(SEED)).state_dict()


_EXTRAS = {
    "args": argparse.Namespace(lr=0.1, model="resnet", img_size=None),
    "best": np.float64(91.5),
    "random": np.random.RandomState(0).get_state(),
    "when": datetime.datetime(2024, 1, 1),
    "took": datetime.timedelta(1),
    "folder": Path("runs"),
    "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
    "recent": collections.deque([1, 2], 3),
    "kinds": [torch.device("cpu"), torch.float16, torch.Size([1, 2]), {1, 2}, frozenset([3]), 1 + 2j, 2**80, b"raw"],
    "version": torch.__version__,
}

WRAPPED: list[tuple[str, Callable[[State], Any], str]] = [
    ("state_dict", lambda s: s, ""),
    ("module.", lambda s: _before("module.", s), "prefix module."),
    ("compile of DDP", lambda s: _before("_orig_mod.module.", s), "prefix _orig_mod.module."),
    ("DDP of compile", lambda s: _before("module._orig_mod.", s), "prefix module._orig_mod."),
    ("unheard-of prefix", lambda s: {"net": _before("task.trunk.v2.", s)}, "net, prefix task.trunk.v2."),
    ("wrapper in the middle", lambda s: _middle("module.", s), "wrappers taken out"),
    ("compiled in the middle", lambda s: _before("model.", _middle("_orig_mod.", s)), "wrappers taken out"),
    ("Lightning", lambda s: {"state_dict": _before("net.", s), "hyper_parameters": {"lr": 1e-3}}, "prefix net."),
    (
        "Lightning with a criterion and metrics",
        lambda s: {
            "state_dict": {**_before("model.", s), "criterion.weight": torch.ones(4), "acc.tp": torch.tensor(3)},
            "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.1)}},
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        "ignored criterion.weight, acc.tp",
    ),
    (
        "Lightning with averaged weights",
        lambda s: {"state_dict": {**_before("ema_model.module.", state(6)), **_before("model.", s)}},
        "prefix model., not state_dict, prefix ema_model.module.",
    ),
    ("averaged weights beside plain names", lambda s: {**_before("ema.", state(6)), **s}, "not prefix ema."),
    ("two equal copies", lambda s: {**_before("a.", s), **_before("b.", s)}, "prefix a."),
    ("AveragedModel", _averaged, "prefix module., ignored n_averaged"),
    ("plain before averaged", lambda s: {"state_dict_ema": state(6), "state_dict": s}, "not state_dict_ema"),
    ("averaged alone", lambda s: {"ema_state_dict": s, "optimizer": {}}, "ema_state_dict"),
    ("student and teacher", lambda s: {"teacher": state(6), "student": s}, "student, not teacher"),
    ("nests in nests", lambda s: {"model": {"state_dict": _before("module.", s)}}, "model.state_dict, prefix module."),
    ("gradients beside", lambda s: {"grads": state(6), "params": s}, "params"),
    ("what scripts save beside", lambda s: {"state_dict": s, **_EXTRAS}, "state_dict"),
    ("half precision", lambda s: each(torch.Tensor.half, s), "from float16"),
    ("bfloat16", lambda s: each(torch.Tensor.bfloat16, s), "from bfloat16"),
    ("double precision", lambda s: each(torch.Tensor.double, s), "from float64"),
    ("parameters", lambda s: {name: nn.Parameter(tensor, False) for name, tensor in s.items()}, ""),
    ("views of one storage", lambda s: each(lambda t: torch.cat([t[None], t[None] + 1])[0], s), ""),
    ("channels last", lambda s: each(lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t, s), ""),
    ("no count of batches", lambda s: {k: v for k, v in s.items() if not k.endswith("tracked")}, ""),
    ("count of batches as a list", lambda s: {k: v[None] if k.endswith("tracked") else v for k, v in s.items()}, ""),
]

UNFIT: list[tuple[str, Callable[[State], Any], str]] = [
    ("no classifier", lambda s: {k: v for k, v in s.items() if "head" not in k}, "leaves head.1.weight, head.1.bias"),
    ("another network", lambda _: nn.Linear(2, 2).state_dict(), "and 5 more unfilled"),
    ("more than the network has", lambda s: {**s, "extra.weight": torch.ones(2)}, "has extra.weight that"),
    (
        "more, inside a prefix",
        lambda s: _before("a.", {**s, "extra": torch.ones(2)}),
        "a.extra that the network has not",
    ),
    ("other width", lambda s: {**s, "conv.weight": torch.ones(6, 3, 5, 5)}, "is [6, 3, 5, 5] there"),
    ("other classes", lambda _: {"model": dict(weighted.seven(1).state_dict())}, "has 7 classes; write `classes: own`"),
    (
        "two different copies",
        lambda s: {**_before("a.", s), **_before("b.", state(6))},
        "twice, in prefix a. and prefix b.",
    ),
    ("folds", lambda s: {"fold0": s, "fold1": state(6)}, "twice, in fold0 and fold1"),
    ("NaN", lambda s: {**s, "head.1.bias": torch.full((4,), torch.nan)}, "holds NaN or infinite"),
    ("infinity", lambda s: {**s, "head.1.bias": torch.full((4,), torch.inf).half()}, "holds NaN or infinite"),
    (
        "beyond single precision",
        lambda s: {**s, "head.1.bias": torch.full((4,), 1e300, dtype=torch.double)},
        "that float32 has not",
    ),
    (
        "quantised",
        lambda s: {**s, "bn.bias": torch.quantize_per_tensor(s["bn.bias"], 0.1, 0, torch.qint8)},
        "quantised",
    ),
    ("complex", lambda s: {**s, "bn.bias": s["bn.bias"] + 0j}, "bn.bias is complex64, and float32 in the network"),
    ("boolean", lambda s: {**s, "bn.bias": s["bn.bias"] > 0}, "bn.bias is bool, and float32 in the network"),
    ("integers", lambda s: {**s, "bn.bias": s["bn.bias"].int()}, "bn.bias is int32, and float32"),
    ("float8", lambda s: each(lambda t: t.to(torch.float8_e4m3fn), s), "is float8_e4m3fn, and float32 in the network"),
    ("sparse", lambda s: {**s, "head.1.weight": s["head.1.weight"].to_sparse()}, "is sparse; save it dense"),
    ("without numbers", lambda s: {**s, "bn.bias": s["bn.bias"].to("meta")}, "bn.bias is a shape without numbers"),
    (
        "a list in place of a tensor",
        lambda s: {**s, "bn.bias": [torch.ones(())] * 6},
        "bn.bias is a list, not a tensor",
    ),
    ("NumPy arrays", lambda s: {k: v.numpy() for k, v in s.items()}, "holds no tensors by name, but a NumPy array"),
    ("a list", lambda s: list(s.items()), "holds a list, no tensors by name"),
    ("one tensor", lambda s: s["conv.weight"], "holds a Tensor, no tensors by name"),
    ("numbers alone", lambda _: {"epoch": 3}, "holds no tensors by name"),
    ("a whole network", lambda _: weighted.plain(SEED), "holds benchmarks.faults.weighted.Plain, not only tensors"),
    ("a class nobody knows", lambda s: {"state_dict": s, "net": Unknown()}, "Unknown, not only tensors"),
    ("a function", lambda s: {"state_dict": s, "how": json.loads}, "it holds json.loads, not only tensors"),
    (
        "a stride that pretends to be large",
        lambda s: {**s, "bn.bias": torch.ones(1).expand(10**13)},
        "bn.bias is [1000000",
    ),
]
