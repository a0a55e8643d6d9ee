"""Operations that move elements: labels of what they are given -> labels of what they give."""

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from .following import Following
from .labels import compact, varying

_WRITES_SHAPE = ("view", "reshape", "expand", "unflatten")


def concatenate(at: Following, node: fx.Node) -> torch.Tensor:
    """Values side by side: along their channels, or along another dimension, where the channels of all are one."""
    parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
    dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    shape = at.shape(node)
    dim %= len(shape)
    along = {d for part in parts if part in at.labels for d in varying(at.labels[part])}
    if along and dim not in along:
        as_one = [(at.labels[part], _with(at.shape(part), dim, shape[dim])) for part in parts if part in at.labels]
        return at.meet(node, [*as_one, *(part for part in parts if part not in at.labels)], shape)
    if not all(part in at.labels for part in parts):
        return at.opaque(node, "channels are put beside what depends on no image")
    return compact(torch.cat([at.labels_in_full(part) for part in parts], dim))


def stack(at: Following, node: fx.Node) -> torch.Tensor:
    """Values along a new dimension."""
    parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
    if not all(part in at.labels for part in parts):
        return at.opaque(node, "channels are put beside what depends on no image")
    return compact(at.done_to(node, {part: at.labels_in_full(part) for part in parts}))


def divide(at: Following, node: fx.Node) -> list[torch.Tensor]:
    """Pieces of one size lose channels together; those of sizes that are written down are as many as are left."""
    source, args = at.source(node), list[Any](node.args)
    assert source is not None
    labels, shapes = at.labels[source], [tuple(value.shape) for value in at.found.values[node][0]]
    dim = node.kwargs.get("dim", args[2] if len(args) > 2 else 0) % labels.ndim
    split: Any = args[1] if len(args) > 1 else next(iter(set(node.kwargs) - {"dim"} and node.kwargs.values()))
    listed = isinstance(split, list | tuple)
    uneven = not listed and len({shape[dim] for shape in shapes}) > 1
    if uneven:
        labels = at.hold(labels, [dim], node, "its pieces are of different sizes")
    if labels.shape[dim] == 1:
        return [labels] * len(shapes)
    ends = accumulate(shape[dim] for shape in shapes)
    pieces = [labels.narrow(dim, end - s[dim], s[dim]) for end, s in zip(ends, shapes, strict=True)]
    if listed:
        for i, piece in enumerate(pieces):
            at.write(node, (1, i), split[i], piece, dim)
    elif not uneven:
        for piece in pieces[1:]:
            at.join(pieces[0], piece)
        if "split" in getattr(node.target, "__name__", str(node.target)):
            at.write(node, (1,) if len(args) > 1 else ("split_size",), split, pieces[0], dim)
    return [compact(piece) for piece in pieces]


def unbind(at: Following, node: fx.Node) -> list[torch.Tensor]:
    """What lies along one dimension, one by one: along it nothing can be taken out."""
    source = at.only(node)
    dim: Any = node.kwargs.get("dim", [*node.args, 0][1])
    dim %= len(at.shape(source))
    labels = at.hold(at.labels[source], [dim], node, "channels are taken one by one")
    return [labels.narrow(dim, 0, 1).squeeze(dim)] * at.shape(source)[dim]


def take(at: Following, node: fx.Node) -> Any:
    """One of several values, or what an index leaves: of channels a run, or all."""
    source, index = node.all_input_nodes[0], list[Any](node.args)[1]
    if isinstance(at.labels[source], list):
        return at.labels[source][index] if isinstance(index, int) else at.opaque(node, "it takes several tensors")
    if any(one in at.labels for one in node.all_input_nodes[1:]):
        return at.opaque(node, "what it takes depends on the pixels")
    labels, held = at.labels[source], []
    for dim, place, part in _indexed(at, index, labels.ndim):
        if isinstance(part, slice) and labels.shape[dim] > 1:
            ends = (at.size(part.start), at.size(part.stop))
            if part.step not in (None, 1) or any(
                end is None and given is not None for end, given in zip(ends, (part.start, part.stop), strict=True)
            ):
                held.append(dim)
                continue
            start, stop, _ = slice(*ends).indices(labels.shape[dim])
            at.write(node, (*place, "start"), part.start, _before(labels, dim, start), dim)
            at.write(node, (*place, "stop"), part.stop, _before(labels, dim, stop), dim)
        elif not isinstance(part, slice):
            held.append(dim)
    labels = at.hold(labels, held, node, "it takes channels that are not one run")
    try:
        return compact(at.done_to(node, {source: labels.expand(at.shape(source))}))
    except KeyError:
        return at.opaque(node, "it takes what is not known")


def _before(labels: torch.Tensor, dim: int, end: int) -> torch.Tensor:
    return labels.narrow(dim, 0, end)


def _indexed(at: Following, index: Any, dims: int) -> Iterator[tuple[int, tuple[int | str, ...], Any]]:
    """The dimensions that an index tells about, where it does, and how."""
    parts = list(index) if isinstance(index, tuple) else [index]
    places: list[tuple[int | str, ...]] = [(1, i) for i in range(len(parts))] if isinstance(index, tuple) else [(1,)]

    def wide(part: Any) -> int:
        if part is None or part is Ellipsis:
            return 0
        value = at.found.values[part][0] if isinstance(part, fx.Node) else part
        return value.ndim if isinstance(value, torch.Tensor) and value.dtype == torch.bool else 1

    dim, rest = 0, dims - sum(map(wide, parts))
    for place, part in zip(places, parts, strict=True):
        if part is Ellipsis:
            dim += rest
            continue
        for _ in range(wide(part)):
            if part != slice(None):
                yield dim, place, part
            dim += 1


def reshape(at: Following, node: fx.Node) -> torch.Tensor:
    """Elements in the same order in another shape: maps that are flattened, channels in groups, heads, windows."""
    source, shape = at.source(node), at.shape(node)
    assert source is not None
    if math.prod(shape) != math.prod(at.shape(source)):
        return at.opaque(node, f"it turns {list(at.shape(source))} into {list(shape)}")
    labels = compact(at.labels_in_full(source).reshape(shape))
    _write_shape(at, node, labels)
    if node.op == "call_module" and hasattr(at.modules[str(node.target)], "unflattened_size"):
        labels = at.hold(labels, varying(labels), node, "its shape is the module's own")
    return labels


def reshape_as(at: Following, node: fx.Node) -> torch.Tensor:
    """Elements in the shape of another value, whose channels they have."""
    given, other = node.args[:2]
    shape = at.shape(node)
    if not (isinstance(given, fx.Node) and given in at.labels and other in at.labels):
        return at.opaque(node, "it takes the shape of what depends on no image")
    return at.meet(node, [(compact(at.labels_in_full(given).reshape(shape)), shape), other], shape)


def expand(at: Following, node: fx.Node) -> torch.Tensor:
    """Elements that are repeated along dimensions along which there was one."""
    source = at.only(node)
    labels = at.labels[source]
    labels = labels.view(*[1] * (len(at.shape(node)) - labels.ndim), *labels.shape)
    _write_shape(at, node, labels)
    return labels


def _write_shape(at: Following, node: fx.Node, labels: torch.Tensor) -> None:
    """Notes the numbers of a shape that is written in an operation."""
    name = getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module" or name not in _WRITES_SHAPE:
        return
    args, first = list[Any](node.args)[1:], 0
    keywords: dict[str, Any] = dict(node.kwargs)
    where: list[Any] = [(1 + i,) for i in range(len(args))]
    if name == "unflatten":
        first = (args[0] if args else keywords["dim"]) % labels.ndim
        args, where = args[1:], where[1:]
    key = next((key for key in ("shape", "size", "sizes") if key in keywords), None)
    if key is not None:
        args, where = [keywords[key]], [(str(key),)]
    if len(args) == 1 and isinstance(args[0], list | tuple):
        where = [(*where[0], i) for i in range(len(args[0]))]
        args = list(args[0])
    for dim, (place, value) in enumerate(zip(where, args, strict=True), first):
        if labels.shape[dim] > 1 and (at.size(value) or 0) > 0:
            at.write(node, place, value, labels, dim)


def turn(at: Following, node: fx.Node) -> torch.Tensor:
    """Dimensions in another order, or elements within dimensions along which no channels lie."""
    source = at.only(node)
    return compact(at.done_to(node, {source: at.labels_in_full(source)}))


def roll(at: Following, node: fx.Node) -> torch.Tensor:
    """Elements that change places along some dimensions, which have no channels."""
    source = at.only(node)
    named: Any = node.kwargs.get("dims", list[Any](node.args)[-1])
    dims = [named] if isinstance(named, int) else named
    return at.hold(at.labels[source], dims, node, "channels change places")


def gate(at: Following, node: fx.Node) -> torch.Tensor:
    """The first half of the channels, gated by the second: they lose channels together."""
    source = at.only(node)
    labels = at.labels[source]
    dim: Any = getattr(at.modules.get(str(node.target)), "dim", node.kwargs.get("dim", [*node.args, -1][1]))
    dim %= labels.ndim
    if labels.shape[dim] == 1:
        return labels
    first, second = labels.chunk(2, dim)
    at.join(first, second)
    return first


def unfold(at: Following, node: fx.Node) -> torch.Tensor:
    """Pixel shuffle: the channels that become one map lose or keep their place together."""
    return at.hold(turn(at, node), [2, 3], node, "channels become a map")


def shuffle(at: Following, node: fx.Node) -> torch.Tensor:
    """Channels in groups, taken one from each group in turn: groups lose channels together."""
    source = at.only(node)
    labels = at.labels[source]
    if labels.shape[1] == 1:
        return labels
    module = at.modules.get(str(node.target)) if node.op == "call_module" else None
    groups: Any = getattr(module, "groups", node.kwargs.get("groups", [*node.args, 1][1]))
    rows = labels.unflatten(1, (groups, -1))
    at.join(rows, rows[:, :1])
    return rows.transpose(1, 2).flatten(1, 2)


def fresh(at: Following, node: fx.Node) -> torch.Tensor:
    """A tensor made for every image."""
    return at.always(at.found.values[node][0])


def pad(at: Following, node: fx.Node) -> torch.Tensor:
    """New channels before and behind those that are there."""
    source = at.only(node)
    labels = at.labels[source]
    widths: Any = node.args[1] if len(node.args) > 1 else node.kwargs["pad"]
    where = (1,) if len(node.args) > 1 else ("pad",)
    for i in range(0, len(widths), 2):
        dim, given = labels.ndim - 1 - i // 2, [at.size(width) for width in widths[i : i + 2]]
        if given == [0, 0] or labels.shape[dim] == 1:
            continue
        sides = [width for width in given if width is not None and width >= 0]
        if len(sides) < 2 or len(varying(labels)) > 1:
            return at.opaque(node, "it is not known to pad with whole channels")
        sizes = [1] * labels.ndim
        padded = list[torch.Tensor]()
        for side, width in enumerate(sides):
            sizes[dim] = width
            padded.append(at.new(width).view(sizes))
            at.write(node, (*where, i + side), widths[i + side], padded[-1], dim)
        labels = torch.cat([padded[0], labels, padded[1]], dim)
    return labels


def _with(shape: tuple[int, ...], dim: int, length: int) -> tuple[int, ...]:
    return (*shape[:dim], length, *shape[dim + 1 :])
