"""Which operations form an atomic node: residual and transformer blocks whole, conv-bn-act groups together."""

from collections.abc import Collection
from functools import cached_property

from torch import fx, nn

from ..trace.graph import Trace
from ..trace.parts import between

_BOXES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_POOLING = {"mean", "amax", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_MIXING = {"conv1d", "conv2d", "linear", "matmul", "bmm", "einsum", "scaled_dot_product_attention"}


class Nodes:
    """Joins the segments between legal cuts into atomic nodes.

    A unit (residual or transformer block, downsampling layer) is one node; outside units a convolution or linear
    layer opens a node and what follows it (normalisation, activation, pooling) joins it. What stands directly below
    the root before the first unit inside a box, the stem, belongs to the first node. The head starts at the first
    global pooling or loss of the grid.
    """

    def __init__(self, found: Trace, declared: Collection[str] | None = None):
        """`declared`: the paths of the units, where they are known; None: they are found."""
        self._trace, self._declared = found, None if declared is None else frozenset(declared)
        self._modules = dict(found.model.named_modules())
        self.cuts = found.cuts
        ends = [*self.cuts[1:], found.output]
        self._segments = [
            (end, between(found, start, end)) for start, end in zip(self.cuts, ends, strict=True) if start is not end
        ]
        self._boxes: dict[str, bool] = {}

    def units(self) -> list[str]:
        """Paths of the modules that are nodes by themselves, in order."""
        found = dict.fromkeys(self._unit(end) for end, _ in self._body)
        return [path for path in found if path is not None]

    def groups(self) -> list[tuple[str, fx.Node]]:
        """(name, last operation) of every node, the head left out."""
        groups: list[tuple[str, str | None, fx.Node]] = []
        for end, nodes in self._body:
            unit = self._unit(end)
            opens = any(self._mixes(node) for node in nodes)
            if groups and (unit == groups[-1][1] if unit else not opens):
                name, previous, _ = groups.pop()
                groups.append((name, previous, end))
            elif unit or opens:
                groups.append((unit or self._first_mixing(nodes), unit, end))
        nested = [unit is not None and "." in unit for _, unit, _ in groups]
        stem = nested.index(True) if True in nested else 0
        return [(name, end) for name, _, end in groups[stem:]]

    def fine(self) -> list[tuple[str, fx.Node]]:
        """(operation, last operation) of every segment between legal cuts, the head left out."""
        return [(end.name, end) for end, _ in self._body]

    @cached_property
    def _body(self) -> list[tuple[fx.Node, list[fx.Node]]]:
        for i, (end, _) in enumerate(self._segments):
            value = self._trace.values[end][0]
            if end is self._trace.output or value.ndim < 3 or self._pools(end):
                return self._segments[:i]
        return self._segments

    def _pools(self, node: fx.Node) -> bool:
        value = self._trace.values[node][0]
        if node.op == "call_module":
            name = type(self._modules[str(node.target)]).__name__
            return "Pool" in name and ("Adaptive" in name or value.shape[2:] == (1, 1))
        return _name(node) in _POOLING and (value.ndim < 4 or value.shape[2:] == (1, 1))

    def _mixes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(p.ndim > 1 for p in self._modules[str(node.target)].parameters())
        return _name(node) in _MIXING

    def _first_mixing(self, nodes: list[fx.Node]) -> str:
        return next(node.meta["path"] or node.name for node in nodes if self._mixes(node))

    def _unit(self, node: fx.Node) -> str | None:
        """The outermost module around an operation that is neither a box of units nor a single layer."""
        parts = node.meta["path"].split(".") if node.meta["path"] else []
        for depth in range(1, len(parts) + 1):
            prefix = ".".join(parts[:depth])
            if self._declared is not None:
                if prefix in self._declared:
                    return prefix
            elif not self._is_box(prefix):
                layer = prefix == node.target or not list(self._modules[prefix].children())
                return None if layer else prefix
        return None

    def _is_box(self, path: str) -> bool:
        if path not in self._boxes:
            self._boxes[path] = self._looks_like_box(path)
        return self._boxes[path]

    def _looks_like_box(self, path: str) -> bool:
        """Sequences of units or of several layers, modules that hold such sequences or repeat a cuttable unit."""
        module = self._modules[path]
        children = [(f"{path}.{name}", child) for name, child in module.named_children()]
        composite = [(p, child) for p, child in children if list(child.children())]
        if isinstance(module, _BOXES):
            layers = [child for _, child in children if any(q.ndim > 1 for q in child.parameters())]
            return bool(composite) or len(layers) > 1
        if len(children) == len(composite) == 1 and self._cuts_inside(composite[0][0]) > 0:
            return True  # a stage of a single block
        if any(isinstance(child, _BOXES) and self._is_box(p) and self._cuts_inside(p) > 0 for p, child in composite):
            return True
        return any(
            self._cuts_inside(p) > 0 and self._cuts_inside(q) > 0
            for n, (p, a) in enumerate(composite)
            for q, b in composite[n + 1 :]
            if type(a) is type(b) and self._branches(p) and self._branches(q)
        )

    def _cuts_inside(self, path: str) -> int:
        return sum(_below(cut.meta["path"], path) for cut in self.cuts[1:])

    def _branches(self, path: str) -> bool:
        """Whether more than one tensor is alive somewhere inside: fewer cuts than operations."""
        operations = sum(_below(node.meta["path"], path) for _, nodes in self._segments for node in nodes)
        return self._cuts_inside(path) < operations


def guess_units(model: nn.Module) -> list[str]:
    """Units by structure alone, for a network that cannot be traced inside them: members of sequences of modules."""
    found: list[str] = []

    def descend(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            inner = f"{path}.{name}" if path else name
            holds_boxes = any(isinstance(m, _BOXES) and len(m) > 1 for m in child.modules() if m is not child)
            if isinstance(child, _BOXES) or (holds_boxes and not isinstance(module, _BOXES)):
                descend(child, inner)
            elif isinstance(module, _BOXES) and list(child.children()):
                found.append(inner)

    descend(model, "")
    return found


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
