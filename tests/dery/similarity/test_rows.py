"""The matrix as rows: each pair once, under the right names."""

import pytest
import torch

from lib.dery.activations import Activations
from lib.dery.similarity import rows


def _network(name: str, nodes: int) -> Activations:
    described = [{"name": f"{name}{i}", "params": i, "macs": 10 * i, "memory": 7} for i in range(nodes)]
    return Activations(name, described, [], torch.arange(3), "")


def test_every_pair_of_nodes_is_a_row_and_networks_are_compared_with_others_alone() -> None:
    nodes = rows.nodes([_network("a", 2), _network("b", 1)])
    assert nodes[1] == {"model": "a", "node": "a1", "params": 1, "macs": 10}
    similar = torch.tensor([[1.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.75, 1.0]])
    found = rows.long_form(similar, nodes, "cka")
    assert found.columns.tolist() == ["model_a", "node_a", "model_b", "node_b", "cka"]
    assert found["node_a"].tolist() == ["a0", "a0", "a0", "a1", "a1", "b0"]
    assert found["node_b"].tolist() == ["a0", "a1", "b0", "a1", "b0", "b0"]
    assert found["cka"].tolist() == [1, 0.5, 0.25, 1, 0.75, 1]
    assert rows.means(similar, nodes) == {"between_networks_mean": pytest.approx(0.5)}
    assert rows.means(similar[:2, :2], nodes[:2]) == {"between_networks_mean": 1}
