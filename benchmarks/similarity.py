"""The node x node similarity of a zoo, beside three other ways to compute linear CKA.

python -m benchmarks.similarity [--quick]

72 layers like the residual blocks of four CIFAR-10 ResNets (20, 32, 44, 56), random but correlated, seeded; pooled
(16, 32 and 64 columns) and unpooled (16,384, 8,192 and 4,096). CPU seconds of one thread for all 2,628 pairs of layers:

  ours      lib.dery.similarity.matrix.matrix, no memo
  pairwise  the DeRy authors' way: both Gram matrices built and centred by H K H, pair by pair
  features  the textbook's form for few columns, ||Y'X||^2 / (||X'X|| ||Y'Y||) after centring, pair by pair
  centred   the same, the layers having been centred once, before
  torch_cka the package of that name (unbiased HSIC, pair by pair), its forward passes being free

Ways marked with a share are timed on a random sample of pairs and extrapolated by the number of pairs. Every figure is
the least of some repetitions. Errors are the largest differences from float64. torch_cka is not a dependency:
pip install --target FOLDER --no-deps torch_cka, then PYTHONPATH=FOLDER.
"""

import argparse
import contextlib
import gc
import importlib.util
import io
import json
import random
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lib.base.progress import track
from lib.dery.similarity import gram, hsic
from lib.dery.similarity.layers import Network, centred
from lib.dery.similarity.matrix import matrix
from lib.params.similarity import Similarity

BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}  # a stage
STAGES = [(16, 32), (32, 16), (64, 8)]  # channels, pixels a side
MEMORY = 2 * 2**30
PARAMS = Similarity(index="cka", bandwidth=0.8, variance=0.99, batch_images=None)
Way = Callable[[torch.Tensor, torch.Tensor], float]


def main() -> None:
    """Prints the tables and, as the last line, speed-ups, errors and the share of the peak as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similarity", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="512 and 1,024 images, few pairs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    counts = [512, 1024] if quick else [512, 1024, 2048]
    sampled = 12 if quick else 40
    seconds: dict[tuple[str, int, str], tuple[float, float]] = {}
    errors: dict[tuple[str, int, str], float] = {}
    for n in track(counts, "pooled"):
        networks = zoo(n, pooled=True)
        seconds["pooled", n, "ours"] = best(lambda z=networks: matrix(z, PARAMS, MEMORY), 7), 1.0
        seconds["pooled", n, "pairwise"] = over_pairs(pairwise, networks, sampled, 2)
        seconds["pooled", n, "features"] = over_pairs(features, networks, None, 3)
        seconds["pooled", n, "centred"] = over_pairs(centred_features, [_centred(net) for net in networks], None, 3)
        seconds["pooled", n, "torch_cka"] = with_torch_cka(networks, 12 if quick else 60)
    for n in track(counts, "unpooled"):
        networks = zoo(n, pooled=False)
        seconds["unpooled", n, "ours"] = best(lambda z=networks: matrix(z, PARAMS, MEMORY), 2), 1.0
        seconds["unpooled", n, "pairwise"] = over_pairs(pairwise, networks, sampled, 1)
        errors["unpooled", n, "gram"] = difference(matrix(networks, PARAMS, MEMORY), by_kernels(networks))
        del networks
        gc.collect()
    for n in track([512, 2048] if quick else [512, 1024, 2048, 4096, 8192], "errors"):
        networks = zoo(n, pooled=True)
        expected = by_features(networks)
        errors["pooled", n, "as chosen"] = difference(matrix(networks, PARAMS, MEMORY), expected)
        for form in ("gram", "covariance"):
            errors["pooled", n, form] = difference(forced(form, networks), expected)
    share, peak = sgemm_share()
    _print(seconds, errors)

    def times(kind: str, n: int, way: str) -> float | None:
        other = seconds[kind, n, way][0]
        return None if other != other else round(other / seconds[kind, n, "ours"][0], 1)

    figures = {
        "speedup_pooled_1024": times("pooled", 1024, "pairwise"),
        "speedup_unpooled_1024": times("unpooled", 1024, "pairwise"),
        "speedup_feature_form": times("pooled", 1024, "features"),
        "speedup_feature_form_centred_once": times("pooled", 1024, "centred"),
        "speedup_torch_cka": times("pooled", 1024, "torch_cka"),
        "error_max": max(errors.values()),
        "sgemm_share_256": round(share, 3),
        "sgemm_peak_gflops": round(peak, 1),
        "seconds": {
            f"{kind} {n} {way}": round(found, 4) if found == found else None
            for (kind, n, way), (found, _) in seconds.items()
        },
    }
    print(json.dumps(figures))


def zoo(n: int, pooled: bool) -> list[Network]:
    """Layers after a ReLU that all see some of the same 32 factors."""
    generator = torch.Generator().manual_seed(n)
    factors = torch.randn(n, 32, generator=generator)
    networks = []
    for name, blocks in BLOCKS.items():
        widths = [c if pooled else c * side**2 for c, side in STAGES for _ in range(blocks)]
        layers = []
        for width in widths:
            layer = torch.randn(n, width, generator=generator)
            layer.addmm_(factors, torch.randn(32, width, generator=generator), beta=0.5, alpha=0.2)
            layers.append(layer.relu_())
        networks.append(Network(name, name, tuple(map(str, range(len(layers)))), tuple(layers)))
    return networks


def pairwise(x: torch.Tensor, y: torch.Tensor) -> float:
    """<K, L>_F / (||K||_F ||L||_F), K = H X X' H."""
    n = len(x)
    h = torch.eye(n) - 1 / n
    k, m = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h
    return float((k * m).sum() / (k.norm() * m.norm()))


def features(x: torch.Tensor, y: torch.Tensor) -> float:
    """||Y'X||^2 / (||X'X|| ||Y'Y||) with X and Y centred."""
    return centred_features(x - x.mean(0), y - y.mean(0))


def centred_features(x: torch.Tensor, y: torch.Tensor) -> float:
    """The same of layers that are centred."""
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def over_pairs(way: Way, networks: Sequence[Network], sample: int | None, repeats: int) -> tuple[float, float]:
    """Seconds for all pairs of layers, and the share of the pairs that was timed."""
    layers = [layer for net in networks for layer in net.layers]
    pairs = list(combinations_with_replacement(layers, 2))
    timed = random.Random(0).sample(pairs, sample) if sample else pairs
    seconds = best(lambda: [way(x, y) for x, y in timed], repeats)
    return seconds * len(pairs) / len(timed), len(timed) / len(pairs)


class _Stored(nn.Module):
    """A network whose layers' outputs are known."""

    def __init__(self, layers: Sequence[torch.Tensor]):
        super().__init__()
        self.stored = layers
        self.layers = nn.ModuleList([nn.Identity() for _ in layers])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for identity, layer in zip(self.layers, self.stored, strict=True):
            identity(layer)
        return x


def with_torch_cka(networks: Sequence[Network], sample: int) -> tuple[float, float]:
    """Seconds for all pairs as some layers of one network against five of another take; NaN where it is missing."""
    if importlib.util.find_spec("torch_cka") is None:
        return float("nan"), 0.0
    from torch_cka import CKA  # pyright: ignore[reportMissingImports]

    draw = random.Random(0)
    layers = [layer for net in networks for layer in net.layers]
    chosen = draw.sample(layers, max(1, sample // 5)), draw.sample(layers, 5)
    models = [_Stored(some) for some in chosen]
    names = [[f"layers.{i}" for i in range(len(some))] for some in chosen]
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        compared = CKA(models[0], models[1], "a", "b", names[0], names[1])
        batch = [(torch.zeros(len(layers[0]), 1),)]
        loader = _Loader(batch)
        seconds = best(lambda: compared.compare(loader, loader), 2)
    pairs = len(layers) * (len(layers) + 1) // 2
    timed = len(chosen[0]) * len(chosen[1])
    return seconds * pairs / timed, timed / pairs


class _Loader(list[tuple[torch.Tensor]]):
    """One batch, as torch_cka takes it."""

    dataset = "stored"


def by_features(networks: Sequence[Network]) -> torch.Tensor:
    """CKA of all pairs in float64, through covariances."""
    layers = [layer.double() - layer.double().mean(0) for net in networks for layer in net.layers]
    widths = [layer.shape[1] for layer in layers]
    columns = torch.cat(layers, 1)
    squares = (columns.T @ columns).square_()
    return _normalised(torch.stack([_sums(part, widths) for part in squares.split(widths)]))


def _sums(rows: torch.Tensor, widths: list[int]) -> torch.Tensor:
    return torch.stack([part.sum() for part in rows.split(widths, 1)])


def by_kernels(networks: Sequence[Network]) -> torch.Tensor:
    """CKA of all pairs in float64, through kernel matrices."""
    kernels = []
    for net in networks:
        for layer in net.layers:
            x = layer.double()
            x -= x.mean(0)
            kernels.append((x @ x.T).flatten())
    stacked = torch.stack(kernels)
    return _normalised(stacked @ stacked.T)


def _normalised(products: torch.Tensor) -> torch.Tensor:
    scale = products.diagonal().sqrt()
    return products / (scale[:, None] * scale)


def forced(form: str, networks: Sequence[Network]) -> torch.Tensor:
    """Our matrix with all pairs in one form."""
    chooser = hsic.prefers_gram
    hsic.prefers_gram = lambda *_: form == "gram"
    try:
        return matrix(networks, PARAMS, MEMORY)
    finally:
        hsic.prefers_gram = chooser


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest."""
    return float((found - expected).abs().max())


def sgemm_share() -> tuple[float, float]:
    """Of the peak that the product of one block of a tile of 256 x 256 layers reaches; the peak in GFLOP/s."""
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / best(lambda: square @ square, 12)
    a, b = torch.randn(256, gram.ROWS**2), torch.randn(256, gram.ROWS**2)
    reached = 2 * a.numel() * len(b) / best(lambda: a @ b.T, 12)
    return reached / peak, peak / 1e9


def best(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds, the least of some repetitions."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


def _centred(network: Network) -> Network:
    return Network(network.name, network.checksum, network.nodes, tuple(centred(layer) for layer in network.layers))


def _print(seconds: dict[tuple[str, int, str], tuple[float, float]], errors: dict[tuple[str, int, str], float]) -> None:
    console = Console(width=120)
    table = Table("layers", "images", "way", "CPU s", "timed", "ours is faster by", title="All pairs of 72 layers")
    for (kind, n, way), (found, share) in seconds.items():
        times = found / seconds[kind, n, "ours"][0]
        shown = ("not installed", "", "") if found != found else (f"{found:.3g}", f"{share:.1%}", f"{times:.3g}x")
        table.add_row(kind, str(n), way, *(shown if way != "ours" else (shown[0], "all", "")))
    console.print(table)
    table = Table("layers", "images", "form", "largest error", title="Against float64")
    for (kind, n, form), error in errors.items():
        table.add_row(kind, str(n), form, f"{error:.1e}")
    console.print(table)


if __name__ == "__main__":
    main()
