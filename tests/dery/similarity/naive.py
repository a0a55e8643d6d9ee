"""Every index by its definition, one pair of layers at a time, in float64 numpy; and networks to compare."""

from collections.abc import Callable

import numpy as np
import torch

from lib.dery.similarity.layers import Network
from lib.params.similarity import Similarity

Matrix = np.ndarray
DEFAULTS = {"bandwidth": 0.8, "variance": 0.9, "batch_images": None}


def params(index: str, **others: object) -> Similarity:
    return Similarity.model_validate({**DEFAULTS, "index": index, **others})


def network(name: str, *layers: torch.Tensor) -> Network:
    return Network(name, f"checksum of {name}", tuple(f"node{i}" for i in range(len(layers))), layers)


def zoo(n: int, *widths: tuple[int, ...], seed: int = 0) -> list[Network]:
    """Networks whose layers [n, d] all see some of the same eight factors, at different scales and means."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    factors = draw(n, 8)
    return [
        network(
            f"net{m}",
            *(
                10 ** float(draw(1)) * (torch.tanh(factors @ draw(8, d)) + 0.5 * draw(n, d) + 3 * draw(1, d))
                for d in own
            ),
        )
        for m, own in enumerate(widths)
    ]


def hsic(k: Matrix, m: Matrix) -> float:
    """Biased: tr(K H M H) / n^2."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h)) / len(k) ** 2


def hsic_unbiased(k: Matrix, m: Matrix) -> float:
    """Song et al. 2012, Eq. 5."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    total = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return float(total) / (n * (n - 3))


def linear(x: Matrix) -> Matrix:
    return x @ x.T


def gaussian(x: Matrix, bandwidth: float) -> Matrix:
    squares = ((x[:, None] - x[None]) ** 2).sum(2)
    distances = np.sort(np.sqrt(squares[np.triu_indices(len(x), 1)]))
    sigma = bandwidth * distances[(len(distances) - 1) // 2]
    return np.exp(-squares / (2 * sigma**2))


def normalised(product: Callable[[Matrix, Matrix], float], k: Matrix, m: Matrix) -> float:
    return product(k, m) / np.sqrt(product(k, k) * product(m, m))


def minibatch_cka(x: Matrix, y: Matrix, parts: list[slice]) -> float:
    """Nguyen et al. 2021, Eq. 3-5: means of the unbiased HSIC."""

    def mean(a: Matrix, b: Matrix) -> float:
        return float(np.mean([hsic_unbiased(linear(a[part]), linear(b[part])) for part in parts]))

    return mean(x, y) / np.sqrt(mean(x, x) * mean(y, y))


def regression(x: Matrix, y: Matrix) -> float:
    """R^2 of predicting y from x by least squares with an intercept, all outputs together."""
    x, y = x - x.mean(0), y - y.mean(0)
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - float((residual**2).sum() / (y**2).sum())


def correlations(x: Matrix, y: Matrix) -> Matrix:
    """Canonical correlations: singular values of S_xx^-1/2 S_xy S_yy^-1/2."""
    x, y = x - x.mean(0), y - y.mean(0)

    def root(z: Matrix) -> Matrix:
        values, vectors = np.linalg.eigh(z.T @ z)
        return vectors @ np.diag(values**-0.5) @ vectors.T

    return np.linalg.svd(root(x) @ (x.T @ y) @ root(y), compute_uv=False)


def leading(x: Matrix, variance: float) -> Matrix:
    """The projection on the fewest principal components that hold `variance`."""
    x = x - x.mean(0)
    _, s, v = np.linalg.svd(x, full_matrices=False)
    count = 1
    while (s[:count] ** 2).sum() < variance * (s**2).sum():
        count += 1
    return x @ v[:count].T


DEFINITIONS: dict[str, Callable[[Matrix, Matrix], float]] = {
    "cka": lambda x, y: normalised(hsic, linear(x), linear(y)),
    "cka_debiased": lambda x, y: normalised(hsic_unbiased, linear(x), linear(y)),
    "cka_rbf": lambda x, y: normalised(hsic, gaussian(x, 0.8), gaussian(y, 0.8)),
    "lr": lambda x, y: (regression(x, y) + regression(y, x)) / 2,
    "cca": lambda x, y: float((correlations(x, y) ** 2).mean()),
    "svcca": lambda x, y: float(correlations(leading(x, 0.9), leading(y, 0.9)).mean()),
}


def table(networks: list[Network], index: Callable[[Matrix, Matrix], float]) -> Matrix:
    """[L, L] by a definition, 1 on the diagonal."""
    layers = [layer.double().numpy() for net in networks for layer in net.layers]
    found = np.eye(len(layers))
    for i in range(len(layers)):
        for j in range(i):
            found[i, j] = found[j, i] = index(layers[i], layers[j])
    return found
