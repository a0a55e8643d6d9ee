"""The same cuts in eval and train mode, whose operations differ where a network asks for its mode."""

from collections.abc import Collection, Iterable, Sequence

from torch import fx

from ..trace.graph import Trace


def twins(evaluating: Trace, training: Trace, ends: Sequence[fx.Node]) -> dict[fx.Node, fx.Node]:
    """The places in train mode of the cuts `ends` of a network in eval mode; without those that are no cut there.

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


def joined(groups: list[tuple[str, fx.Node]], cuts: Collection[fx.Node]) -> list[tuple[str, fx.Node]]:
    """Nodes (name, last operation), each joined with the next one as long as its end is none of the `cuts`."""
    joined: list[tuple[str, fx.Node]] = []
    first = ""
    for name, end in groups:
        first = first or name
        if end in cuts:
            joined.append((first, end))
            first = ""
    return joined
