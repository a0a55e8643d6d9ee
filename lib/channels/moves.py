"""Operations that move channels: labels of what they are given -> labels of what they give."""

from itertools import accumulate
from math import prod
from typing import Any

from torch import fx

from .following import Following


def concatenate(at: Following, node: fx.Node) -> list[int]:
    """Channels of several values side by side."""
    pieces = node.args[0] if node.args else node.kwargs["tensors"]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    assert isinstance(pieces, list | tuple)
    if dim not in (1, 1 - len(at.shape(node))) or not all(piece in at.labels for piece in pieces):
        at.refuse(node, "it does not put channels of images side by side")
    return [label for piece in pieces if isinstance(piece, fx.Node) for label in at.labels[piece]]


def divide(at: Following, node: fx.Node) -> list[int]:
    """Pieces of one size lose channels together; those of sizes that are written down are as many as are left."""
    source, args = at.source(node), list[Any](node.args)
    labels, shapes = at.labels[source], [tuple(value.shape) for value in at.found.values[node][0]]
    dim = node.kwargs.get("dim", args[2] if len(args) > 2 else 0)
    if not isinstance(dim, int) or dim % len(at.shape(source)) != 1 or len(args) < 2 or len(shapes) < 2:
        at.refuse(node, "it does not divide channels into pieces")
    ends = list(accumulate(shape[1] for shape in shapes))
    pieces = [labels[end - shape[1] : end] for end, shape in zip(ends, shapes, strict=True)]
    if isinstance(args[1], list | tuple):
        at.sizes += [(node.name, (1, i), piece) for i, piece in enumerate(pieces)]
    elif len({len(piece) for piece in pieces}) > 1:
        at.refuse(node, "its pieces are of different sizes")
    else:
        for piece in pieces[1:]:
            at.join(pieces[0], piece)
        if getattr(node.target, "__name__", node.target) == "split":
            at.sizes.append((node.name, (1,), pieces[0]))
    at.pieces[node] = pieces
    return labels


def is_piece(at: Following, node: fx.Node) -> bool:
    """Whether an index takes one of several pieces, or a run of channels."""
    index = list[Any](node.args)[1]
    if node.all_input_nodes[0] in at.pieces:
        return isinstance(index, int)
    runs = list(index) if isinstance(index, tuple) else []
    plain = len(runs) > 1 and all(isinstance(run, slice) for run in runs)
    return plain and runs[0] == slice(None) != runs[1]


def piece(at: Following, node: fx.Node) -> list[int]:
    """One of several pieces, or a run of channels."""
    index = list[Any](node.args)[1]
    if isinstance(index, int):
        return at.pieces[at.source(node)][index]
    labels, run = at.labels[at.source(node)], index[1]
    ends = (run.start, run.stop)
    if run.step not in (None, 1) or not all(end is None or isinstance(end, int) for end in ends):
        at.refuse(node, "it takes channels that are not one run")
    start, stop, _ = run.indices(len(labels))
    at.sizes += [
        (node.name, (1, 1, name), labels[:end])
        for name, written, end in (("start", run.start, start), ("stop", run.stop, stop))
        if written is not None
    ]
    return labels[start:stop]


def gate(at: Following, node: fx.Node) -> list[int]:
    """The first half of the channels, gated by the second: they lose channels together."""
    labels = at.labels[at.source(node)]
    dim = getattr(at.modules.get(str(node.target)), "dim", node.kwargs.get("dim", [*node.args, -1][1]))
    if not isinstance(dim, int) or dim % len(at.shape(node)) != 1:
        at.refuse(node, "it does not gate channels")
    half = len(labels) // 2
    at.join(labels[:half], labels[half:])
    return labels[:half]


def unfold(at: Following, node: fx.Node) -> list[int]:
    """Pixel shuffle: the channels that become one map lose or keep their place together."""
    labels, made = at.labels[at.source(node)], at.shape(node)[1]
    wide = len(labels) // made
    for first in range(0, len(labels), wide):
        together = labels[first : first + wide]
        at.join(together[1:], together[:-1])
    return labels[::wide]


def shuffle(at: Following, node: fx.Node) -> list[int]:
    """Channels in groups, taken one from each group in turn: groups lose channels together."""
    labels = at.labels[at.source(node)]
    module = at.modules.get(str(node.target)) if node.op == "call_module" else None
    groups: Any = getattr(module, "groups", node.kwargs.get("groups", [*node.args, 1][1]))
    wide = len(labels) // groups
    rows = [labels[first : first + wide] for first in range(0, len(labels), wide)]
    for row in rows[1:]:
        at.join(rows[0], row)
    return [label for column in zip(*rows, strict=True) for label in column]


def fresh(at: Following, node: fx.Node) -> list[int]:
    """A tensor made for every image, the same for all its channels."""
    if len(at.shape(node)) < 2 or at.shape(node)[1] != 1:
        at.refuse(node, "it makes channels of its own")
    return at.new(1)


def pad(at: Following, node: fx.Node) -> list[int]:
    """New channels before and behind those that are there."""
    labels = at.labels[at.source(node)]
    widths: Any = node.args[1] if len(node.args) > 1 else node.kwargs["pad"]
    first = 2 * (len(at.shape(node)) - 2)  # where the widths of the channels' dimension stand
    before, after = (*widths[first : first + 2], 0, 0)[:2]
    if len(widths) > first + 2 or not all(isinstance(width, int) and width >= 0 for width in (before, after)):
        at.refuse(node, "it is not known to pad with whole channels")
    where = (1,) if len(node.args) > 1 else ("pad",)
    padded = (at.new(before), at.new(after))
    at.sizes += [(node.name, (*where, first + i), new) for i, new in enumerate(padded) if new]
    return [*padded[0], *labels, *padded[1]]


def reshape(at: Following, node: fx.Node) -> list[int]:
    """Maps that are flattened or get further dimensions; channels in groups, [b, g, c / g, h, w], and back."""
    source = at.source(node)
    before, after, labels = at.shape(source), at.shape(node), at.labels[source]
    if after[:1] != before[:1] or prod(after) != prod(before) or len(after) < 2:
        at.refuse(node, f"it turns {list(before)} into {list(after)}")
    written = _written_shape(node)
    if len(before) == 4 and len(after) == 5 and after[3:] == before[2:]:
        rows = [labels[i : i + after[2]] for i in range(0, len(labels), after[2])]
        for row in rows[1:]:
            at.join(rows[0], row)
        at.grids[node], written = rows, {2: written[2]} if 2 in written else {}
        at.sizes += [(node.name, place, rows[0]) for place, value in written.values() if value != -1]
        return labels
    if source in at.grids and (len(after) != 4 or after[2:] != before[3:]):
        at.refuse(node, f"it turns {list(before)} into {list(after)}")
    if source not in at.grids and after[1] == prod(before[1:]):
        labels = [label for label in labels for _ in range(prod(before[2:]))]
    if 1 in written and written[1][1] != -1:
        at.sizes.append((node.name, written[1][0], labels))
    return labels


def turn(at: Following, node: fx.Node) -> list[int]:
    """Groups of channels, [b, g, c / g, h, w], as [b, c / g, g, h, w]."""
    rows = at.grids[at.source(node)]
    dims = list[Any](node.args)[1:]
    dims = list(dims[0]) if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
    if dims not in ([1, 2], [2, 1], [0, 2, 1, 3, 4]):
        at.refuse(node, "it is not known to leave channels apart")
    at.grids[node] = [list(column) for column in zip(*rows, strict=True)]
    return [label for row in at.grids[node] for label in row]


def _written_shape(node: fx.Node) -> dict[int, tuple[tuple[int | str, ...], int]]:
    """The numbers of the new shape that are written in a call of view or reshape: by dimension, where, and which."""
    if node.op == "call_module" or getattr(node.target, "__name__", node.target) not in ("view", "reshape"):
        return {}
    args, where = list[Any](node.args), list[tuple[int | str, ...]]()
    if len(args) > 1 and isinstance(args[1], list | tuple):
        shape, where = args[1], [(1, i) for i in range(len(args[1]))]
    elif "shape" in node.kwargs:
        shape: Any = node.kwargs["shape"]
        where = [("shape", i) for i in range(len(shape))]
    else:
        shape, where = args[1:], [(1 + i,) for i in range(len(args) - 1)]
    return {i: (where[i], value) for i, value in enumerate(shape) if isinstance(value, int)}
