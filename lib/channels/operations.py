"""What is known of single operations: which treat every channel by itself and keep their order."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..trace.plain import kind

_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Upsample, nn.ZeroPad2d,
    nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.PReLU)
_UNARY = (
    "abs", "celu", "clamp", "clamp_max", "clamp_min", "clip", "elu", "erf", "exp", "gelu", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "leaky_relu", "log1p", "logsigmoid", "mish", "neg", "negative", "positive", "pow", "relu",
    "relu6", "rsqrt", "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt", "square", "tanh", "threshold",
    "bernoulli", "empty_like", "full_like", "logical_not", "ones_like", "rand_like", "randn_like", "zeros_like",
)  # fmt: skip
_FUNCTIONS = {
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.dropout, F.dropout2d, torch.dropout,
    F.interpolate, torch.clone, torch.Tensor.contiguous, torch.Tensor.clone, torch.Tensor.detach,
    torch.Tensor.bool, torch.Tensor.float, torch.Tensor.to, torch.Tensor.double, torch.Tensor.type_as,
    operator.abs, operator.invert, operator.ipow, operator.neg, operator.pos, operator.pow,
    *(getattr(home, name + end) for home in (F, torch, torch.Tensor) for name in _UNARY for end in ("", "_")
      if hasattr(home, name + end)),
}  # fmt: skip
_REDUCING = {torch.mean, torch.sum, torch.amax, torch.Tensor.mean, torch.Tensor.sum, torch.Tensor.amax}
_ROLLING = {torch.roll, torch.Tensor.roll, torch.flip, torch.Tensor.flip}
RESHAPING: set[Any] = {
    nn.Flatten, torch.flatten, torch.Tensor.flatten, torch.Tensor.view, torch.Tensor.reshape, torch.reshape,
    torch.squeeze, torch.Tensor.squeeze, torch.Tensor.unsqueeze, torch.unsqueeze,
}  # fmt: skip
ELEMENTWISE: set[Any] = {
    operator.add, operator.iadd, operator.mul, operator.imul, operator.sub, operator.isub, operator.truediv,
    operator.itruediv, torch.Tensor.expand_as, torch.Tensor.copy_, torch.where, torch.Tensor.where,
    *(getattr(operator, name) for name in ("and_", "eq", "ge", "gt", "le", "lt", "ne", "or_", "xor")),
    *(getattr(home, name + end) for home in (torch, torch.Tensor) for end in ("", "_")
      for name in ("add", "mul", "multiply", "sub", "subtract", "div", "divide", "maximum", "minimum", "masked_fill",
                   "eq", "ge", "gt", "le", "lt", "ne", "logical_and", "logical_or")
      if hasattr(home, name + end)),
}  # fmt: skip
TURNING: set[Any] = {torch.transpose, torch.Tensor.transpose, torch.permute, torch.Tensor.permute}
DIVIDING: set[Any] = {torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split}


class Operation:
    """One operation of a traced graph. function: what is called, a method as of torch.Tensor, a module as its type;
    module: the module that runs, or whose weights a function is given; name: its path.
    """

    def __init__(self, node: fx.Node, modules: dict[str, nn.Module]):
        self.node = node
        self.name = str(node.target) if node.op == "call_module" else ""
        self.module: Any = modules.get(self.name) if node.op == "call_module" else None
        self.function: Any = node.target if self.module is None else kind(self.module)
        if node.op == "call_method":
            self.function = getattr(torch.Tensor, str(node.target), None)
        if self.function is F.linear and len(node.args) > 1:
            self._take_owner(node.args[1], modules)

    def _take_owner(self, weight: Any, modules: dict[str, nn.Module]) -> None:
        owner = str(weight.target).rpartition(".")[0] if isinstance(weight, fx.Node) else None
        module = modules.get(owner or "")
        if isinstance(module, nn.Linear) and weight.op == "get_attr" and weight.target == f"{owner}.weight":
            self.name, self.module, self.function = str(owner), module, nn.Linear

    @property
    def is_layer(self) -> bool:
        """Whether every output is a weighted sum of inputs, as nn.Conv2d and nn.Linear have it."""
        return self.function in (nn.Conv2d, nn.Linear)

    @property
    def is_norm(self) -> bool:
        """Whether an operation is a module with numbers of its own for every channel."""
        return isinstance(self.module, _NORMS)

    def keeps_channels(self, dimensions: int) -> bool:
        """Whether an operation treats every channel of its only input, of so many dimensions, by itself."""
        if self.module is not None:
            return isinstance(self.module, _MODULES)
        if self.function in _REDUCING:
            return self._reduces_space(dimensions)
        if self.function is operator.getitem:
            return self.slices_space()
        if self.function in _ROLLING | TURNING:
            return self._moves_space(dimensions)
        return self.function in _FUNCTIONS or getattr(self.function, "__name__", "") == "stochastic_depth"

    def _moves_space(self, dimensions: int) -> bool:
        if self.function in _ROLLING:
            named: Any = self.node.kwargs.get("dims", list[Any](self.node.args)[-1])
            dims = [named] if isinstance(named, int) else named
        else:
            dims = [*self.node.args[1:], *self.node.kwargs.values()]
            dims = list(dims[0]) if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
            if len(dims) == dimensions:  # a permutation names all of them
                dims = dims[2:] if dims[:2] == [0, 1] else []
        return (
            isinstance(dims, list | tuple)
            and bool(dims)
            and all(isinstance(d, int) and d % dimensions >= 2 for d in dims)
        )

    def _reduces_space(self, dimensions: int) -> bool:
        given: Any = self.node.args[1] if len(self.node.args) > 1 else self.node.kwargs.get("dim")
        dims = [given] if isinstance(given, int) else given
        return isinstance(dims, list | tuple) and all(isinstance(d, int) and d % dimensions >= 2 for d in dims)

    def slices_space(self) -> bool:
        """Whether an index leaves images and channels whole: it takes positions, or adds dimensions behind them."""
        index: Any = self.node.args[1]
        whole = isinstance(index, tuple) and list(index[:2]) == [slice(None)] * 2
        return whole and all(part is None or isinstance(part, slice | int) for part in index)
