"""Operations in which elements meet that lie apart: products of matrices, attention, norms, sums along a dimension."""

from typing import Any

import torch
from torch import fx

from .following import Following
from .labels import varying

_HEADS = "channels of a head are summed up in it"


def multiply(at: Following, node: fx.Node) -> torch.Tensor:
    """A product of matrices [..., m, k] and [..., k, n]: what is summed over stands or falls together."""
    a, b = [*node.args, *node.kwargs.values()][:2]
    if not all(isinstance(one, fx.Node) and isinstance(at.labels.get(one), torch.Tensor) for one in (a, b)):
        return at.opaque(node, "it multiplies matrices")
    assert isinstance(a, fx.Node)
    assert isinstance(b, fx.Node)
    if min(len(at.shape(a)), len(at.shape(b))) < 2:
        return at.opaque(node, "it multiplies matrices")
    left, right = (at.hold(at.labels[one], [dim], node, _HEADS) for one, dim in ((a, -1), (b, -2)))
    left, right = left.narrow(-1, 0, 1), right.narrow(-2, 0, 1)
    if left.shape[-2] > 1 and right.shape[-1] > 1:
        left, right = (at.hold(one, [dim], node, _HEADS) for one, dim in ((left, -2), (right, -1)))
        left, right = left.narrow(-2, 0, 1), right.narrow(-1, 0, 1)
    rows, columns = (*at.shape(a)[:-1], 1), (*at.shape(b)[:-2], 1, at.shape(b)[-1])
    return at.roots(at.meet(node, [(left, rows), (right, columns)], at.shape(node)))


def attend(at: Following, node: fx.Node) -> torch.Tensor:
    """Scaled dot-product attention of queries and keys [..., n, d] and values [..., n, e]: heads stay apart."""
    names = ("query", "key", "value", "attn_mask")
    given: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if not all(isinstance(at.labels.get(given[name]), torch.Tensor) for name in names[:3]):
        return at.opaque(node, "it attends to what depends on no image")
    met, shape = [], at.shape(node)
    for name in names[:3]:
        one = given[name]
        labels = at.hold(at.labels[one], [-2] if name == "value" else [-2, -1], node, _HEADS)
        own = list(at.shape(one))
        own[-2] = 1
        if name != "value":
            own[-1] = 1
            labels = labels.narrow(-1, 0, 1)
        if given.get("enable_gqa") and own[-3] != shape[-3]:
            labels, own[-3] = _repeated(labels, shape[-3] // own[-3]), shape[-3]
        met.append((labels.narrow(-2, 0, 1), tuple(own)))
    mask = given.get("attn_mask")
    if isinstance(mask, fx.Node):
        if mask in at.labels:
            labels = at.hold(at.labels[mask], [-2, -1], node, _HEADS).narrow(-1, 0, 1).narrow(-2, 0, 1)
            met.append((labels, (*at.shape(mask)[:-2], 1, 1)))
        else:
            made = at.meet(node, met, shape)
            at.weigh(node, mask, made.narrow(-1, 0, 1), [d for d in varying(made) if d < len(shape) - 2], shape)
    return at.roots(at.meet(node, met, shape))


def _repeated(labels: torch.Tensor, times: int) -> torch.Tensor:
    return labels if labels.shape[-3] == 1 else labels.repeat_interleave(times, -3)


def normalise(at: Following, node: fx.Node, dims: list[int], reason: str) -> torch.Tensor:
    """Every element changed by what is computed along `dims`: along these nothing can be taken out by itself."""
    source = at.source(node)
    if source is None:
        return at.opaque(node, reason)
    return at.hold(at.labels[source], dims, node, reason)


def reduce(at: Following, node: fx.Node) -> Any:
    """Sums, means and the like along some dimensions; along channels, these stay."""
    source = at.only(node)
    args = list[Any](node.args)
    if "norm" in getattr(node.target, "__name__", str(node.target)):
        args = args[:1] + args[2:]  # without its order
    named: Any = args[1] if len(args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis"))
    dims = range(len(at.shape(source))) if named is None else [named] if isinstance(named, int) else named
    if not all(isinstance(dim, int) for dim in dims):
        return at.opaque(node, "it sums up what is not known")
    dims = sorted({dim % len(at.shape(source)) for dim in dims})
    labels = at.hold(at.labels[source], dims, node, "it is one number for all channels")
    value = at.found.values[node][0]
    made = torch.zeros_like(labels) if any(labels.shape[dim] > 1 for dim in dims) else labels
    for dim in dims:
        made = made.narrow(dim, 0, 1)
    if (value if isinstance(value, torch.Tensor) else value[0]).ndim < labels.ndim:
        for dim in reversed(dims):
            made = made.squeeze(dim)
    return made if isinstance(value, torch.Tensor) else [made] * len(value)
