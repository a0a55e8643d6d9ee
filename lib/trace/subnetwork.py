"""A part of a traced network as a module of its own."""

import copy
from collections.abc import Callable, Collection
from typing import Any, Self

import torch
from torch import fx, nn

from .duplicate import made_anew
from .graph import Trace


class Part(nn.Module):
    """A part of a network as a module of its own, with the source's submodules under their own names, not copied.

    It follows train() and eval() like the source: each mode has the operations that were traced in it.
    """

    def __init__(self, evaluating: Trace, in_eval: fx.Graph, training: Trace, in_train: fx.Graph):
        super().__init__()
        both = [(found, node) for found, graph in ((evaluating, in_eval), (training, in_train)) for node in graph.nodes]
        used = {str(node.target) for _, node in both if node.op == "get_attr"}
        for found, node in both:
            if node.op == "get_attr" and node.target in found.constants:
                self.register_buffer(str(node.target), found.constants[str(node.target)], persistent=False)
            elif node.op in ("call_module", "get_attr"):
                _share(found.model, self, str(node.target), used)
        forward = _compiled(in_eval)
        self._forward: dict[bool, Callable[..., torch.Tensor]] = {
            False: forward,
            True: forward if _code(in_eval) == _code(in_train) else _compiled(in_train),
        }
        self._modes = {False: evaluating.modes, True: training.modes}
        self.training = evaluating.model.training

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        memo.update(made_anew(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made

    def train(self, mode: bool = True) -> Self:
        """Switches the part as its source would be: what that keeps in one mode (a frozen BatchNorm) stays in it."""
        super().train(mode)
        for path, module in self.named_modules():
            module.training = self._modes[mode].get(path, mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A batch as it leaves the boundary before -> as it leaves the part."""
        return self._forward[self.training](self, x)


def _code(graph: fx.Graph) -> str:
    return graph.python_code("self").src


def _compiled(graph: fx.Graph) -> Callable[..., torch.Tensor]:
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(compile(code.src, "<part of a network>", "exec"), namespace)  # the graph's own code, made by torch.fx
    return namespace["forward"]


def _share(source: nn.Module, target: nn.Module, path: str, used: Collection[str]) -> None:
    """Puts what stands at `path` of `source` at the same path of `target`: a layer itself if all its weights are
    `used` by functions, so that their owner is told as one.
    """
    *outer, last = path.split(".")
    for i, name in enumerate(outer, 1):
        source = getattr(source, name)
        if name not in target._modules:
            whole = i == len(outer) and _is_layer(source, f"{'.'.join(outer)}.", used)
            target.add_module(name, source if whole else nn.Module())
        target = getattr(target, name)
    value = getattr(source, last)
    if target is source:
        return
    if isinstance(value, nn.Module):
        target.add_module(last, value)
    elif isinstance(value, nn.Parameter):
        target.register_parameter(last, value)
    elif isinstance(value, torch.Tensor):
        target.register_buffer(last, value, persistent=last not in source._non_persistent_buffers_set)
    else:
        setattr(target, last, value)


def _is_layer(module: nn.Module, prefix: str, used: Collection[str]) -> bool:
    """Whether a module is a layer with nothing in it but weights that are used; prefix: of their paths."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return isinstance(module, kinds) and all(f"{prefix}{name}" in used for name in module.state_dict())
