"""A network as a chain of atomic nodes with one tensor crossing each boundary (DeRy, section 3.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import fx, nn

from ..base.errors import BrickyardError
from ..trace import graph, parts
from ..trace.cost import Cost, params
from ..trace.graph import Trace
from ..trace.subnetwork import Part
from .layout import Layout, layouts
from .nodes import Nodes, guess_units
from .twins import joined, twins
from .verify import verify

Granularity = Literal["block", "fine"]


@dataclass(frozen=True)
class Node:
    """An atomic node: its module path, what leaves it, and its cost for one image as a part of its own.

    Weights that several nodes use count at each of them: costs of nodes add up to at least that of their part.
    """

    name: str
    output: Layout
    cost: Cost


class Chain:
    """Nodes 1..L of a network; `chain[i:j]` is the module of nodes i+1..j, `chain.head` the pooling and classifier.

    Running all nodes and the head one after another gives the network's own output, bit for bit in eval mode. Modules
    are shared with the network, not copied; parts belong to the image size of the chain, any batch size.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        shape: tuple[int, ...],
        granularity: Granularity = "block",
        declared: Sequence[str] = (),
    ):
        """`shape`: of one image, [3, h, w]; `declared`: module paths that are to be the nodes, instead of finding them.

        Raises BrickyardError when the network cannot be cut; the line says why and what to declare.
        """
        self.name, self._model, self._shape = name, model, shape
        self._format = torch.contiguous_format  # unless a trace through all modules says otherwise
        units, self._leaves, found = self._find(granularity, declared)
        self._traces: dict[bool, Trace] = {False: found}
        groups = Nodes(found).fine() if granularity == "fine" else Nodes(found, units or None).groups()
        self._twins = twins(found, self._trace(True), [end for _, end in groups])
        groups = joined(groups, self._twins)
        if not groups:
            raise BrickyardError(
                f"{name}: cannot be cut: between input and head there is no place where one tensor is alive; "
                "declare the module paths of its nodes (nodes: [...]), or leave it out"
            )
        self._ends = [found.input, *(end for _, end in groups)]
        at_ends = layouts(found, self._ends)
        self.input = at_ends[0]
        costs = [self._cost(start, end) for start, end in pairwise(self._ends)]
        self.nodes = tuple(Node(groups[i][0], at_ends[i + 1], costs[i]) for i in range(len(groups)))
        self.head_cost = self._cost(self._ends[-1], found.output)

    def to(self, device: torch.device) -> "Chain":
        """The chain itself, its network moved to `device`, weights in the memory format in which it runs quickest; for
        before any part of it is made.
        """
        self._model.to(device).to(memory_format=self._format)
        for found in self._traces.values():
            found.constants = {name: tensor.to(device) for name, tensor in found.constants.items()}
        return self

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, span: slice) -> Part:
        start, stop, step = span.indices(len(self))
        if step != 1 or stop <= start:
            raise IndexError(f"{self.name}: no nodes {start}:{stop}")
        return self._part(self._ends[start], self._ends[stop])

    @cached_property
    def head(self) -> Part:
        """What leads from the last node's output to the logits."""
        return self._part(self._ends[-1], self._traces[False].output)

    @property
    def unused(self) -> int:
        """Parameters of the network that its output does not depend on (auxiliary classifiers, mask tokens)."""
        return params(self._model) - self.total.params

    @cached_property
    def total(self) -> Cost:
        """The cost of all nodes and the head; less than their sum where some have weights in common."""
        found = self._traces[False]
        return self._cost(found.input, found.output)

    def layout(self, boundary: int) -> Layout:
        """The tensor that enters node boundary + 1; 0 is the image, L what enters the head."""
        return self.nodes[boundary - 1].output if boundary else self.input

    def cost(self, start: int, stop: int) -> Cost:
        """The cost of `chain[start:stop]`: what several of its nodes have in common counts once."""
        return self._cost(self._ends[start], self._ends[stop])

    def alive(self, start: int, stop: int) -> int:
        """Most bytes of activations alive at once for one image while nodes start + 1..stop run inside a longer part,
        which frees what enters them as soon as it can; the memory of `cost` is that of a part of their own.
        """
        found = self._traces[False]
        return max(found.memory[node] for node in parts.between(found, self._ends[start], self._ends[stop]))

    def entering(self, boundary: int) -> int:
        """Bytes of what enters node boundary + 1, for one image."""
        return self._traces[False].tensor(self._ends[boundary])[0].nbytes

    @cached_property
    def _parts(self) -> list[Part]:
        return [self[i : i + 1] for i in range(len(self))]

    def walk(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the outputs of nodes 1..L for one batch."""
        for part in self._parts:
            x = part(x)
            yield x

    def verify(self, x: torch.Tensor) -> None:
        """Raises BrickyardError unless nodes and head are the network on the images x, see `verify.verify`."""
        verify(self, self._model, self._traces[False], self._ends, x)

    def to_dict(self) -> dict[str, Any]:
        """Names, layouts and costs of the nodes, each as a part of its own, for JSON; where nodes have something in
        common, `since`: what nodes i..j cost together, in the record of node j, at position i.
        """
        nodes: list[dict[str, Any]] = [
            {"name": n.name, **asdict(n.cost), "output": n.output.to_dict()} for n in self.nodes
        ]
        alone, together = sum((node.cost for node in self.nodes), Cost()), self.cost(0, len(self))
        if (alone.params, alone.macs) != (together.params, together.macs):
            for node, since in zip(nodes, self._since(), strict=True):
                node["since"] = since
        return {"model": self.name, "input": self.input.to_dict(), "nodes": nodes, "head": asdict(self.head_cost)}

    def _find(self, granularity: Granularity, declared: Sequence[str]) -> tuple[list[str], list[str], Trace]:
        """The units, those of them that are leaves, so that they run the source's own code, and the trace with them."""
        missing = sorted(set(declared) - {path for path, _ in self._model.named_modules()})
        if missing:
            raise BrickyardError(f"{self.name}: nodes: the network has no module {missing[0]!r}")
        if declared:
            return list(declared), list(declared), self._traced(declared)
        try:
            found = self._traced([], costs=granularity == "fine")
        except BrickyardError as error:
            if granularity == "fine":
                raise
            units = guess_units(self._model)
            try:
                return units, units, self._traced(units)
            except BrickyardError:
                raise BrickyardError(f"{error}; declare the module paths of its nodes (nodes: [...])") from error
        self._format = found.memory_format
        if granularity == "fine":
            return [], [], found
        units = Nodes(found).units()
        found = self._traced(units)
        opened = {node.target for node in found.graph.nodes if node.target in units and not _gives_tensor(found, node)}
        if not opened:
            return units, units, found
        leaves = [path for path in units if path not in opened]
        return units, leaves, self._traced(leaves)

    def _traced(self, leaves: Sequence[str], costs: bool = True) -> Trace:
        return graph.trace(self._model, self.name, self._shape, leaves, costs=costs).to_run(self.name)

    def _part(self, start: fx.Node, end: fx.Node) -> Part:
        evaluating, training = self._trace(False), self._trace(True)
        first = training.input if start is evaluating.input else self._twins[start]
        last = training.output if end is evaluating.output else self._twins[end]
        return Part(evaluating, parts.part(evaluating, start, end), training, parts.part(training, first, last))

    def _trace(self, train: bool) -> Trace:
        if train not in self._traces:
            found = graph.trace(self._model, self.name, self._shape, self._leaves, train, costs=False)
            self._traces[train] = found.to_run(self.name)
        return self._traces[train]

    def _memory(self, found: Trace, start: fx.Node, end: fx.Node) -> list[int]:
        """Bytes alive at each operation of a part whose caller keeps its input to the end, for one image."""
        operations = parts.between(found, start, end)
        used = [i for i, node in enumerate(operations) if start in node.all_input_nodes]
        last = used[-1] if used else -1
        given = found.tensor(start)[0].nbytes
        return [found.memory[node] + given * (i > last) for i, node in enumerate(operations)]

    def _since(self) -> list[dict[str, list[int]]]:
        """For every node j the parameters and MACs of nodes i..j together, i = 1..j."""
        found = self._traces[False]
        operations = [parts.between(found, start, end) for start, end in pairwise(self._ends)]
        since = []
        for j in range(len(self)):
            done: set[fx.Node] = set()
            used: set[int] = set()
            params, macs = [0], [0]
            for own in operations[j::-1]:
                new = [node for node in own if node not in done]
                weights = {id(p): p.numel() for node in new for p in _parameters(found, node) if id(p) not in used}
                done |= set(new)
                used |= set(weights)
                params.append(params[-1] + sum(weights.values()))
                macs.append(macs[-1] + sum(found.macs[node] for node in new))
            since.append({"params": params[:0:-1], "macs": macs[:0:-1]})
        return since

    def _cost(self, start: fx.Node, end: fx.Node) -> Cost:
        """Of the part between two operations: every parameter and every operation that it uses, once."""
        found = self._traces[False]
        operations = parts.between(found, start, end)
        used = {id(p): p.numel() for node in operations for p in _parameters(found, node)}
        memory = max(self._memory(found, start, end), default=0)
        return Cost(sum(used.values()), sum(found.macs[node] for node in operations), memory)


def _parameters(found: Trace, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(found.model.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr" and node.target not in found.constants:
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(found.model.get_submodule(owner), name)
        return [value] if isinstance(value, nn.Parameter) else []
    return []


def _gives_tensor(found: Trace, node: fx.Node) -> bool:
    return isinstance(found.values[node][0], torch.Tensor)
