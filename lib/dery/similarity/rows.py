"""The matrix as rows for files."""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float

from ..activations import Activations

if TYPE_CHECKING:
    import pandas


def nodes(networks: Sequence[Activations]) -> list[dict[str, Any]]:
    """What belongs to each row of the matrix: network, node, what the node costs, and, where its network's nodes have
    something in common, what it costs together with those before it.
    """
    return [
        {"model": net.model, "node": node["name"], "params": node["params"], "macs": node["macs"]}
        | ({"since": node["since"]} if "since" in node else {})
        for net in networks
        for node in net.nodes
    ]


def long_form(similar: Float[torch.Tensor, "L L"], nodes: Sequence[dict[str, Any]], index: str) -> "pandas.DataFrame":
    """One row a pair of nodes, each pair once; the last column is named after the index."""
    import pandas as pd

    rows = [
        (a["model"], a["node"], b["model"], b["node"], float(similar[i, j]))
        for (i, a), (j, b) in combinations_with_replacement(enumerate(nodes), 2)
    ]
    return pd.DataFrame(rows, columns=["model_a", "node_a", "model_b", "node_b", index])


def means(similar: Float[torch.Tensor, "L L"], nodes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean similarity of nodes of different networks; 1 where there is one network."""
    models = [node["model"] for node in nodes]
    between = torch.tensor([[a != b for b in models] for a in models])
    return {"between_networks_mean": float(similar[between].mean()) if between.any() else 1.0}
