"""What networks cost that need not be there yet: built without weights, cut into nodes and run on shapes alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.base import artifacts
from lib.base.code import ROOT, installed
from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.fit.batchnorm import has_batchnorm
from lib.params.zoo import ZooModel
from lib.trace import cost
from lib.zoo import create
from lib.zoo.architecture import Factory

BATCH = 2  # images that are looked at


@dataclass(frozen=True)
class Layer:
    """A linear layer or convolution: its rows of patches have `inputs` columns, of so many `channels`, its outputs
    `outputs`, at so many `positions` of an image.
    """

    inputs: int
    outputs: int
    positions: int
    channels: int
    groups: int = 1


@dataclass(frozen=True)
class Part:
    """A node, or the head, in eval mode; bytes and MACs are of one image.

    params, macs: as `lib.trace.cost` counts them.
    operations: of each that computes something, bytes of the new tensors that it gives, and all that it reads and
        writes, weights left out.
    traced: how many operations there are, views counted in.
    peak: most bytes alive at once.
    leaving: bytes of what leaves it.
    channels, positions: of what leaves it, prefix tokens left out.
    layers: with weights, in the order in which they run.
    """

    params: int
    macs: int
    operations: tuple[tuple[int, int], ...]
    traced: int
    peak: int
    leaving: int
    channels: int
    positions: int
    layers: tuple[Layer, ...]

    @property
    def made(self) -> int:
        """Bytes of all that operations give, which a training keeps."""
        return sum(made for made, _ in self.operations)


@dataclass(frozen=True)
class Network:
    """A network of the zoo.

    size: pixels a side of its images.
    params: of all of it.
    normed: whether it has a BatchNorm.
    """

    name: str
    size: int
    params: int
    normed: bool
    nodes: tuple[Part, ...]
    head: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        """The nodes and the head."""
        return (*self.nodes, self.head)


def networks(
    entries: dict[str, ZooModel], classes: Callable[[str, ZooModel], int | None], kept: Path, told: Callable[..., Any]
) -> dict[str, Network]:
    """By name, the networks of entries of `zoo.models`.

    classes: how many an entry's network tells apart, None for its own.
    kept: a file with what was found before.
    told: `lib.base.progress.track`, or what stands for it.

    Raises BrickyardError naming an entry that cannot be built or cut.
    """
    before: dict[str, Any] = {}
    with suppress(BrickyardError):  # not there, or damaged
        before = artifacts.read_json(kept)
    found, known = dict[str, Network](), dict[str, Any]()
    for name, entry in told(entries.items(), "networks"):
        count = classes(name, entry)
        key = _key(entry, count)
        try:
            network = TypeAdapter(Network).validate_python({**before[key], "name": name})
        except (KeyError, TypeError, ValidationError):
            network = profile(name, entry, count)
        found[name], known[key] = network, asdict(network)
    if any(key not in before for key in known):
        artifacts.write_json(kept, {**before, **known})
    return found


def _key(entry: ZooModel, classes: int | None) -> str:
    made = entry.model_dump(include={"timm", "torchvision", "factory", "kwargs", "input_size", "nodes"})
    code = None if entry.factory is None else Factory.find(entry.factory, trust=True).sha256
    return sha256(json.dumps([made, code, classes, _looked_at_by()], sort_keys=True).encode()).hexdigest()


@cache
def _looked_at_by() -> list[str]:
    """What decides how a network is cut and counted."""
    rooms = (file for room in ("chain", "trace") for file in sorted((ROOT / "lib" / room).glob("*.py")))
    code = sha256(b"".join(file.read_bytes() for file in (Path(__file__), *rooms))).hexdigest()
    return [code, *installed(("torch", "torchvision", "timm")).values()]


def profile(name: str, entry: ZooModel, classes: int | None) -> Network:
    """Looks at one network, on shapes; weights are made where it cannot be built without. Raises BrickyardError."""
    try:
        try:
            with torch.device("meta"):
                return _profile(name, entry, classes)
        except Exception:  # whatever code says that reads numbers: weights are made then
            return _profile(name, entry, classes)
    except BrickyardError as error:
        raise BrickyardError(f"zoo.models.{name}: {str(error).removeprefix(f'{name}: ')}") from None


def _profile(name: str, entry: ZooModel, classes: int | None) -> Network:
    model, expected = create.untrained(entry, classes)
    with torch.device("cpu"):
        chain = Chain(name, model, expected.shape, declared=entry.nodes)
    ends = [(chain[i : i + 1], node.output, node.cost) for i, node in enumerate(chain.nodes)]
    parts = list[Part]()
    with cost.without_data(model):
        x = torch.empty(BATCH, *expected.shape)
        for part, layout, own in ends:
            x, counted = _run(part, model, x)
            made = {"channels": layout.channels, "positions": layout.height * layout.width}
            parts.append(Part(params=own.params, macs=own.macs, peak=own.memory, **made, **counted))
        own, counted = chain.head_cost, _run(chain.head, model, x)[1]
        made = {"channels": classes or 1000, "positions": 1}
        head = Part(params=own.params, macs=own.macs, peak=own.memory, **made, **counted)
    return Network(name, expected.size, cost.params(model), has_batchnorm(model), tuple(parts), head)


def _run(part: nn.Module, model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    """What leaves a part of a network, and what it took."""
    weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    with _layers(model) as layers, _Operations(weights) as seen:
        y = part(x)
    operations = tuple((made // BATCH, moved // BATCH) for made, moved in seen.operations)
    told = {"operations": operations, "traced": seen.traced, "layers": tuple(layers)}
    return y, told | {"leaving": y.nbytes // BATCH}


class _Operations(TorchDispatchMode):
    """Inside, counts operations and the bytes that they read, weights left out, and write."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.operations, self.traced = list[tuple[int, int]](), 0
        self._weights = weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        places = {one.untyped_storage()._cdata for one in given}
        found = func(*args, **(kwargs or {}))
        made = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]
        self.traced += 1
        if func._schema.is_mutable or any(one.untyped_storage()._cdata not in places for one in made):
            written = sum(one.nbytes for one in made)
            read = sum(one.nbytes for one in given if one.untyped_storage()._cdata not in self._weights)
            self.operations.append((0 if func._schema.is_mutable else written, read + written))
        return found


@contextmanager
def _layers(model: nn.Module) -> Iterator[list[Layer]]:
    """Inside, the layers with weights that run."""
    found = list[Layer]()

    def ran(module: Any, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        outputs = module.weight.shape[0]
        positions = prod(y.shape[1:]) // outputs
        inputs, groups = prod(module.weight.shape[1:]), getattr(module, "groups", 1)
        found.append(Layer(inputs, outputs, positions, module.weight.shape[1], groups))

    handles = [
        module.register_forward_hook(ran) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
