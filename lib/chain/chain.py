"""A network as a chain of atomic nodes with one tensor crossing each boundary (DeRy, section 3.1)."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import fx, nn

from ..base.errors import BrickyardError
from ..trace import graph
from ..trace.cost import Cost, params
from ..trace.graph import Trace
from ..trace.logits import logits
from ..trace.replay import Replay
from ..trace.subnetwork import Part
from .layout import Layout, layouts
from .nodes import Nodes, guess_units

Granularity = Literal["block", "fine"]
_TRAINING = 4  # images, at most, on which train mode is verified


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
        units, self._leaves, found = self._find(granularity, declared)
        self._traces: dict[bool, Trace] = {False: found}
        groups = Nodes(found).fine() if granularity == "fine" else Nodes(found, units or None).groups()
        self._twins = _twins(found, self._trace(True), [end for _, end in groups])
        groups = _joined(groups, self._twins)
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

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, span: slice) -> Part:
        start, stop, step = span.indices(len(self))
        if step != 1 or stop <= start:
            raise IndexError(f"{self.name}: no nodes {start}:{stop}")
        return self._part(self._ends[start], self._ends[stop])

    @cached_property
    def head(self) -> Part:
        """From the last node's output to the logits."""
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
        return max(found.memory[node] for node in graph.between(found, self._ends[start], self._ends[stop]))

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

    @torch.no_grad()
    def verify(self, x: torch.Tensor) -> None:
        """Raises BrickyardError unless nodes and head give, for the images x [b, 3, h, w], exactly what the network
        gives: at every boundary and in the end, in eval mode, and in train mode for the same random numbers, with the
        same running statistics afterwards. The network is left as it was.
        """
        whole = self[0 : len(self)]
        modules = (self._model, whole, self.head, *self._parts)
        with _kept(*modules):
            for module in modules:
                module.eval()
            expected = logits(self._model(x.clone()))
            inside = Replay(self._traces[False], x.clone()).at(self._ends[1:])
            last = x
            for node, last, other in zip(self.nodes, self.walk(x.clone()), inside, strict=True):
                self._compare(last, other, f"node {node.name} differs from what it is in the network")
            self._compare(self.head(last), expected, "cut into nodes it differs from itself")
            again = logits(self._model(x.clone()))
            self._compare(again, expected, "answers the same images differently a second time")
        images = torch.cat([x, x.flip(-1)])[: max(2, min(len(x), _TRAINING))]
        both = (self._model, nn.Sequential(whole, self.head))
        (expected, before), (found, own) = (self._in_training(forward, images) for forward in both)
        self._compare(found, expected, "cut into nodes it differs from itself in train mode")
        used = {id(buffer) for module in modules[1:] for buffer in module.buffers()}  # not those of auxiliary outputs
        for name, buffer in self._model.named_buffers():
            if id(buffer) in used:
                what = f"cut into nodes it keeps other statistics in train mode ({name})"
                self._compare(own[name], before[name], what)

    def _in_training(self, forward: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What the network or its parts give in train mode, and the buffers of the network after that."""
        with _kept(self._model, forward), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                made = logits(forward.train()(x.clone()))
            except Exception as error:  # whatever a network does in train mode with images that it takes in eval mode
                reason = " ".join(str(error).split())[:200]
                raise BrickyardError(f"{self.name}: fails in train mode ({type(error).__name__}: {reason})") from error
            return made, {name: buffer.clone() for name, buffer in self._model.named_buffers()}

    def _compare(self, found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
        """Not-a-numbers are equal to themselves here."""
        if found.shape != expected.shape or not torch.equal(found.nan_to_num(), expected.nan_to_num()):
            alike = found.shape == expected.shape
            by = f" by {float((found - expected).abs().max()):g}" if alike else ""
            raise BrickyardError(f"{self.name}: {what}{by}; leave it out")

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
        return Part(evaluating, graph.part(evaluating, start, end), training, graph.part(training, first, last))

    def _trace(self, train: bool) -> Trace:
        if train not in self._traces:
            found = graph.trace(self._model, self.name, self._shape, self._leaves, train, costs=False)
            self._traces[train] = found.to_run(self.name)
        return self._traces[train]

    def _memory(self, found: Trace, start: fx.Node, end: fx.Node) -> list[int]:
        """Bytes alive at each operation of a part whose caller keeps its input to the end, for one image."""
        operations = graph.between(found, start, end)
        used = [i for i, node in enumerate(operations) if start in node.all_input_nodes]
        last = used[-1] if used else -1
        given = found.tensor(start)[0].nbytes
        return [found.memory[node] + given * (i > last) for i, node in enumerate(operations)]

    def _since(self) -> list[dict[str, list[int]]]:
        """For every node j the parameters and MACs of nodes i..j together, i = 1..j."""
        found = self._traces[False]
        operations = [graph.between(found, start, end) for start, end in pairwise(self._ends)]
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
        operations = graph.between(found, start, end)
        used = {id(p): p.numel() for node in operations for p in _parameters(found, node)}
        memory = max(self._memory(found, start, end), default=0)
        return Cost(sum(used.values()), sum(found.macs[node] for node in operations), memory)


@contextmanager
def _kept(*networks: nn.Module) -> Iterator[None]:
    """Afterwards weights, buffers and modes are what they were."""
    modules = [module for network in networks for module in network.modules()]
    modes = [(module, module.training) for module in modules]
    own = [(module._buffers, dict(module._buffers)) for module in modules]  # some give a buffer another tensor
    state = {
        id(tensor): (tensor, tensor.clone())
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    }
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffers, before in own:
            buffers.update(before)
        with torch.no_grad():
            for tensor, before in state.values():
                tensor.copy_(before)


def _twins(evaluating: Trace, training: Trace, ends: Sequence[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Where the cuts `ends` of a network in eval mode lie in train mode; those left out that are no cut there.

    An operation is known by its module, by what is called, and by which such call it is. Operations that train mode
    has for itself (a branch that is dropped at times) belong to the node before them.
    """
    calls = _by_call(evaluating.graph.nodes)
    other = _by_call(training.graph.nodes)
    alike = {call for call, nodes in calls.items() if len(nodes) == len(other.get(call, ()))}
    order, cuts = list(training.graph.nodes), set(training.cuts)
    place = {node: i for i, node in enumerate(order)}
    found: dict[fx.Node, fx.Node] = {}
    for end in ends:
        if (call := _call(end)) not in alike:
            continue
        twin = other[call][calls[call].index(end)]
        own = (node for node in order[place[twin] + 1 :] if node in training.content)
        while twin not in cuts and (following := next(own, None)) is not None and _call(following) not in calls:
            twin = following
        if twin in cuts and training.tensor(twin).shape == evaluating.tensor(end).shape:
            found[end] = twin
    return found


def _call(node: fx.Node) -> tuple[str, str]:
    return node.meta["path"], node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _by_call(nodes: Iterable[fx.Node]) -> dict[tuple[str, str], list[fx.Node]]:
    found: dict[tuple[str, str], list[fx.Node]] = {}
    for node in nodes:
        found.setdefault(_call(node), []).append(node)
    return found


def _joined(groups: list[tuple[str, fx.Node]], cuts: Collection[fx.Node]) -> list[tuple[str, fx.Node]]:
    """Nodes (name, last operation), each joined with the next one as long as its end is none of the `cuts`."""
    joined: list[tuple[str, fx.Node]] = []
    first = ""
    for name, end in groups:
        first = first or name
        if end in cuts:
            joined.append((first, end))
            first = ""
    return joined


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
