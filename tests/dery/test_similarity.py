"""CKA against its definition, in float64."""

import torch

from lib.dery.similarity import cka


def _by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    """<K, L>_F / (||K||_F ||L||_F) with Gram matrices centred by H = I - 11'/n."""
    n = len(x)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = (h @ z.double() @ z.double().T @ h for z in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def test_equals_the_definition() -> None:
    layers = [torch.randn(64, d) * scale + shift for d, scale, shift in [(3, 1, 0), (40, 1e3, 5), (200, 1e-4, -2)]]
    layers.append(layers[0] @ torch.randn(3, 7) + 0.1 * torch.randn(64, 7))
    matrix = cka(layers)
    for i, x in enumerate(layers):
        for j, y in enumerate(layers):
            assert abs(float(matrix[i, j]) - _by_definition(x, y)) < 1e-5


def test_invariances_and_range() -> None:
    x = torch.randn(50, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8))[0]
    matrix = cka([x, 3 * x @ rotation + 1, torch.randn(50, 8)])
    assert abs(float(matrix[0, 1]) - 1) < 1e-6
    assert 0 <= float(matrix[0, 2]) < 0.9
    assert torch.equal(matrix, matrix.T)


def test_a_constant_layer_is_similar_to_itself_alone() -> None:
    matrix = cka([torch.ones(10, 4), torch.randn(10, 4)])
    assert matrix.tolist() == [[1.0, 0.0], [0.0, 1.0]]
