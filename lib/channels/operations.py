"""What is known of single operations: which treat every element by itself, which move, sum up or multiply them."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..trace.plain import kind

_POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip
_SPATIAL = (
    nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.PReLU)
_UNARY = (
    "abs", "celu", "clamp", "clamp_max", "clamp_min", "clip", "elu", "erf", "exp", "gelu", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "leaky_relu", "log1p", "logsigmoid", "mish", "neg", "negative", "positive", "pow", "relu",
    "relu6", "rsqrt", "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt", "square", "tanh", "threshold",
    "bernoulli", "empty_like", "full_like", "logical_not", "ones_like", "rand_like", "randn_like", "zeros_like",
)  # fmt: skip
_FUNCTIONS = {
    F.dropout, F.dropout1d, F.dropout2d, torch.dropout, torch.clone, torch.Tensor.contiguous, torch.Tensor.clone,
    torch.Tensor.detach, torch.Tensor.bool, torch.Tensor.float, torch.Tensor.to, torch.Tensor.double,
    torch.Tensor.type_as, operator.abs, operator.invert, operator.ipow, operator.neg, operator.pos, operator.pow,
    *(getattr(home, name + end) for home in (F, torch, torch.Tensor) for name in _UNARY for end in ("", "_")
      if hasattr(home, name + end)),
}  # fmt: skip
_POOLING = {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate}
REDUCING: set[Any] = {
    *(getattr(home, name) for home in (torch, torch.Tensor)
      for name in ("mean", "sum", "amax", "amin", "max", "min", "norm", "std", "var", "logsumexp")),
    torch.linalg.norm, torch.linalg.vector_norm,
}  # fmt: skip
SOFTENING: set[Any] = {
    nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, torch.Tensor.softmax,
    torch.Tensor.log_softmax, torch.Tensor.cumsum, torch.cumsum,
}  # fmt: skip
NORMALISING: set[Any] = {F.layer_norm, F.rms_norm}
ROLLING: set[Any] = {torch.roll, torch.Tensor.roll, torch.flip, torch.Tensor.flip}
RESHAPING: set[Any] = {
    nn.Flatten, nn.Unflatten, torch.flatten, torch.Tensor.flatten, torch.Tensor.unflatten, torch.Tensor.view,
    torch.Tensor.reshape, torch.reshape, torch.squeeze, torch.Tensor.squeeze, torch.Tensor.unsqueeze, torch.unsqueeze,
}  # fmt: skip
ELEMENTWISE: set[Any] = {
    operator.add, operator.iadd, operator.mul, operator.imul, operator.sub, operator.isub, operator.truediv,
    operator.itruediv, torch.Tensor.expand_as, torch.Tensor.copy_, torch.where, torch.Tensor.where, torch.addcmul,
    torch.Tensor.addcmul, torch.lerp, torch.Tensor.lerp,
    *(getattr(operator, name) for name in ("and_", "eq", "ge", "gt", "le", "lt", "ne", "or_", "xor")),
    *(getattr(home, name + end) for home in (torch, torch.Tensor) for end in ("", "_")
      for name in ("add", "mul", "multiply", "sub", "subtract", "div", "divide", "maximum", "minimum", "masked_fill",
                   "eq", "ge", "gt", "le", "lt", "ne", "logical_and", "logical_or")
      if hasattr(home, name + end)),
}  # fmt: skip
TURNING: set[Any] = {
    *(getattr(home, name) for home in (torch, torch.Tensor)
      for name in ("transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis")),
    torch.Tensor.t, torch.t, torch.Tensor.repeat, torch.Tensor.repeat_interleave, torch.repeat_interleave,
}  # fmt: skip
EXPANDING: set[Any] = {torch.Tensor.expand, torch.broadcast_to, torch.Tensor.broadcast_to}
DIVIDING: set[Any] = {torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split}
UNBINDING: set[Any] = {torch.unbind, torch.Tensor.unbind}
MULTIPLYING: set[Any] = {operator.matmul, torch.matmul, torch.Tensor.matmul, torch.bmm, torch.Tensor.bmm}
FRESH: set[Any] = {getattr(torch.Tensor, f"new_{name}") for name in ("empty", "full", "ones", "zeros")}
# of timm, which are one operation in a traced graph: windows put back to maps; masks added to scores
WINDOWS = {
    "window_reverse", "window_reverse_nchw", "grid_reverse", "grid_reverse_nchw", "deblockify", "reshape_pre_pool",
    "reshape_post_pool",
}  # fmt: skip
MASKING = {"maybe_add_mask"}


class Operation:
    """One operation of a traced graph. function: what is called, a method as of torch.Tensor, a module as its type;
    module: the module that runs, or whose weights a function is given; name: its path; bias: what a function is given.
    """

    def __init__(self, node: fx.Node, modules: dict[str, nn.Module]):
        self.node = node
        self.bias: Any = None
        self.name = str(node.target) if node.op == "call_module" else ""
        self.module: Any = modules.get(self.name) if node.op == "call_module" else None
        self.function: Any = node.target if self.module is None else kind(self.module)
        if node.op == "call_method":
            self.function = getattr(torch.Tensor, str(node.target), None)
        if self.function is F.linear:
            given: dict[str, Any] = {**dict(zip(("input", "weight", "bias"), node.args, strict=False)), **node.kwargs}
            self._take_owner(given["weight"], modules)
            self.bias = given.get("bias")

    def _take_owner(self, weight: Any, modules: dict[str, nn.Module]) -> None:
        owner = str(weight.target).rpartition(".")[0] if isinstance(weight, fx.Node) else None
        module = modules.get(owner or "")
        if isinstance(module, nn.Linear) and weight.op == "get_attr" and weight.target == f"{owner}.weight":
            self.name, self.module, self.function = str(owner), module, nn.Linear

    @property
    def called(self) -> str:
        """The name of a function that is no module."""
        return "" if self.module is not None else str(getattr(self.function, "__name__", ""))

    @property
    def is_layer(self) -> bool:
        """Whether every output is a weighted sum of inputs, as nn.Conv2d and nn.Linear have it."""
        return self.function in (nn.Conv2d, nn.Linear)

    @property
    def is_norm(self) -> bool:
        """Whether an operation is a module with numbers of its own for every channel, which lie along dimension 1."""
        return isinstance(self.module, _NORMS)

    @property
    def is_response_norm(self) -> bool:
        """Whether it divides every channel's norm over space by the mean of all (GRN, of ConvNeXt V2)."""
        return self.module is not None and is_response_norm(self.module)

    @property
    def normalised(self) -> int | None:
        """How many of the last dimensions a norm without statistics of its own takes together, 0 if not known."""
        if isinstance(self.module, nn.LayerNorm | nn.RMSNorm):
            return len(self.module.normalized_shape) if kind(self.module) in (nn.LayerNorm, nn.RMSNorm) else 0
        if self.function in NORMALISING:
            given: Any = self.node.kwargs.get("normalized_shape", [*self.node.args, 0, 0][1])
            return len(given) if isinstance(given, list | tuple) else 0
        return None

    @property
    def is_pointwise(self) -> bool:
        """Whether an operation treats every element of its only input by itself."""
        if self.module is not None:
            return isinstance(self.module, _POINTWISE)
        return self.function in _FUNCTIONS or self.called == "stochastic_depth"

    @property
    def is_spatial(self) -> bool:
        """Whether it treats every channel, along dimension 1, by itself."""
        return isinstance(self.module, _SPATIAL) if self.module is not None else self.function in _POOLING

    def slices_whole(self, labels: torch.Tensor) -> bool:
        """Whether an index leaves the dimensions whole along which `labels` vary: it takes positions elsewhere."""
        index: Any = self.node.args[1]
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(part is None or part is Ellipsis or isinstance(part, fx.Node) for part in parts):
            return False
        return all(part == slice(None) or labels.shape[dim] == 1 for dim, part in enumerate(parts))


def is_response_norm(module: nn.Module) -> bool:
    """Whether a module is timm's GlobalResponseNorm."""
    return type(module).__name__ == "GlobalResponseNorm" and hasattr(module, "eps")
