"""Which channels of a network stand and fall together, found by following every channel through the traced graph.

Outputs of layers that meet in an addition or a product are one channel, a depthwise filter is one with its input, all
inputs and outputs of one group of a grouped convolution are one, and so are the channels that a layer or norm meets at
the same place when it is used again; the queries, keys and values of a head are one with what it gives, and with its
biases; concatenation, division, reshaping and turning move channels. Channels that meet in any other way stay: those
that a LayerNorm takes together, the residual stream of a transformer with them, and all that goes into an operation
which is not known.
"""

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from ..base.errors import BrickyardError
from ..trace import parts
from ..trace.graph import Trace
from ..trace.plain import is_hooked
from . import weights
from .channels import Coupling, Size, Work
from .labels import varying
from .operations import Operation
from .passing import Passing


def couple(found: Trace, name: str) -> Coupling:
    """The coupling of a traced network's channels; its MACs are 0 where the trace has counted none (`costs=False`).

    Raises BrickyardError naming the network where nothing can be taken out of it, with the first operation that keeps
    channels whole.
    """
    return _Coupling(found, name).result()


def keeping(coupling: Coupling, paths: Sequence[str], modules: Collection[str], name: str) -> Coupling:
    """The same where the channels that modules at these `paths`, and modules inside, make stay, too; the logits follow
    a component's classes. modules: paths of all that the network has.

    Raises BrickyardError naming components.keep and the network where it has no such module, or nothing is left.
    """
    for path in paths:
        if path not in modules:
            close = difflib.get_close_matches(path, sorted(modules), n=3)
            instead = f"did you mean {' or '.join(close)}?" if close else "give paths as in network.named_modules()"
            raise BrickyardError(f"components.keep: {name} has no module {path!r}; {instead}")
    kept = {
        channel
        for layer in coupling.layers
        if any(f"{layer.name}.".startswith(f"{path}.") for path in paths)
        for channel in layer.outputs
    } - {*coupling.classifier.outputs}
    made = {channel for layer in coupling.layers for channel in layer.outputs}
    if kept and made <= kept | coupling.fixed | {*coupling.classifier.outputs}:
        raise BrickyardError(f"components.keep: nothing is left of {name} that can be taken out; name fewer modules")
    return replace(coupling, fixed=coupling.fixed | kept)


class _Coupling(Passing):
    """What follows for all operations together, once every one has been followed."""

    def result(self) -> Coupling:
        """What was found, channels numbered in the order of their appearance."""
        shared = self.tie()
        self.axes.update(weights.axes(self))
        while self.settle():
            self.axes.update(weights.axes(self))
        logits = self.labels[self.found.output]
        outputs = logits.flatten().tolist() if isinstance(logits, torch.Tensor) else []
        classifier = self.layers[-1][1] if self.layers else None
        apart = len({*map(self.root, outputs)}) == len(outputs) and len(self.shape(self.found.output)) == 2
        if classifier is None or list(classifier.outputs) != outputs or not apart:
            raise BrickyardError(
                f"{self.name}: has no classifier: its last convolution or linear layer does not give the logits"
            )
        made = {self.root(label) for _, layer in self.layers for label in layer.outputs}
        fixed = {self.root(label) for label in self.fixed} | ({*map(self.root, range(len(self.parents)))} - made)
        if made <= fixed | {*map(self.root, outputs)}:
            if self.why is not None:
                raise BrickyardError(f"{self.name}: nothing can be taken out of it: channels stay, first at {self.why}")
            raise BrickyardError(f"{self.name}: has no layer before its classifier, so nothing can be taken apart")
        numbers: dict[int, int] = {}
        places = [numbers.setdefault(self.root(label), len(numbers)) for label in range(1, len(self.parents))]

        def numbered(labels: Sequence[int]) -> tuple[int, ...]:
            return tuple(places[label - 1] if label else numbers.setdefault(0, len(numbers)) for label in labels)

        coupling = Coupling(
            count=0,
            fixed=frozenset(),
            layers=tuple(
                replace(
                    layer,
                    inputs=numbered(layer.inputs),
                    outputs=numbered(layer.outputs),
                    norm=self.norm_after(node) if layer.alone and layer.name not in shared else None,
                    alone=layer.alone and layer.name not in shared,
                )
                for node, layer in self.layers
            ),
            axes={
                path: tuple(numbered(axes[axis]) if axis in axes else None for axis in range(self.parameter(path).ndim))
                for path, axes in self.axes.items()
            },
            sizes=tuple(self.sizes(numbered, asked=False)),
            asked=tuple(self.sizes(numbered, asked=True)),
            works=tuple(self.works(numbered)),
            unused=self.unused(),
            memory_format=self.found.memory_format,
        )
        return replace(
            coupling, count=len(numbers), fixed=frozenset(numbers[root] for root in fixed if root in numbers)
        )

    def settle(self) -> bool:
        """Makes labels vary along one dimension alone, the last; returns whether that was needed anywhere."""
        found = False
        for labels in self.grids:
            labels = self.roots(labels)
            for dim in varying(labels)[:-1]:
                found = True
                self.join(labels.narrow(dim, 0, 1), labels)
        return found

    def sizes(self, numbered: Callable[[Sequence[int]], tuple[int, ...]], asked: bool) -> list[Size]:
        """The numbers of channels that operations are told: those that are written, or those that are asked for."""
        found = list[Size]()
        for one in self.written:
            row = self.row(one.labels, one.dim)
            if isinstance(one.value, fx.Node) is asked and (row is not None or asked):
                others = one.labels.shape[one.dim] if row is None else 0
                found.append(Size(one.node.name, one.at, numbered(row or []), others))
        return found

    def row(self, labels: torch.Tensor, dim: int) -> list[int] | None:
        """The labels along `dim`, None if it is along others that channels are taken out."""
        if set(varying(self.roots(labels))) - {dim}:
            return None
        return labels.movedim(dim, 0).flatten(1)[:, 0].tolist() if labels.numel() else []

    def works(self, numbered: Callable[[Sequence[int]], tuple[int, ...]]) -> list[Work]:
        """What is computed outside of layers."""
        found = list[Work]()
        for node in parts.needed(self.found):
            labels: Any = self.labels.get(node)
            macs = self.found.macs.get(node, 0)
            if macs and (node not in self.labels or Operation(node, self.modules).name not in self.given):
                along = varying(self.roots(labels)) if isinstance(labels, torch.Tensor) else []
                found.append(Work(macs, numbered((self.row(labels, along[0]) if along else None) or [])))
        return found

    def tie(self) -> set[str]:
        """Weights that are one keep the same rows everywhere; returns the modules that share some."""
        homes: dict[int, str] = {}
        shared: set[str] = set()
        for path, axes in self.axes.items():
            owner, _, name = path.rpartition(".")
            weight = self.modules[owner]._parameters.get(name)
            home = path if weight is None else homes.setdefault(id(weight), path)
            if home != path:
                shared |= {home.rpartition(".")[0], path.rpartition(".")[0]}
                for axis in axes.keys() & self.axes[home].keys():
                    self.join(torch.tensor(axes[axis]), torch.tensor(self.axes[home][axis]))
        return shared

    def unused(self) -> frozenset[str]:
        """Modules and weights that the logits do not depend on."""
        used: set[int] = set()
        for node in parts.needed(self.found):
            if node.op == "call_module":
                used |= {id(parameter) for parameter in self.modules[str(node.target)].parameters()}
            elif node.op == "get_attr" and str(node.target) not in self.found.constants:
                used.add(id(self.parameter(str(node.target))))
        idle = {
            f"{path}.{name}" if path else name
            for path, module in self.modules.items()
            for name, parameter in module.named_parameters(recurse=False)
            if id(parameter) not in used
        }
        return frozenset(
            idle
            | {path for path, module in self.modules.items() if all(id(p) not in used for p in module.parameters())}
        )

    def norm_after(self, node: fx.Node) -> str | None:
        """The BatchNorm that is the only one to read what a layer gives."""
        users = [user for user in node.users if user in self.labels]
        reads = len(users) == 1 and users[0].op == "call_module"
        following = self.modules[str(users[0].target)] if reads else None
        normed = isinstance(following, nn.BatchNorm1d | nn.BatchNorm2d) and following.running_mean is not None
        if following is None or not normed or is_hooked(following):
            return None
        once = sum(node.target == users[0].target for node in self.labels) == 1
        return str(users[0].target) if once else None
