"""What is said of many accuracies at once: paired bootstraps and sign tests over images, intervals of Kendall's tau,
regret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.dery.assembly.agreement import kendall_tau
from lib.dery.paths.tables import Columns

ROUNDS = 10_000
LEVEL = (2.5, 97.5)  # percentiles of an interval of 95 %


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its bootstrap interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def difference(ours: np.ndarray, theirs: np.ndarray, seed: int) -> Estimate:
    """Accuracy of one network minus another's, in points, from whether they are right on the same images, bool [n].

    Paired bootstrap: images are drawn anew with replacement. The difference on an image is -1, 0 or 1, so that the
    sums of a round follow a multinomial distribution, from which they are drawn at once.
    """
    n = len(ours)
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    drawn = np.random.default_rng(seed).multinomial(n, [won / n, lost / n, (n - won - lost) / n], ROUNDS)
    low, high = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / n, LEVEL)
    return Estimate(100 * (won - lost) / n, float(low), float(high))


def sign_test(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The chance that two networks which are equally good differ on the same images as these do, or more, two-sided:
    exact, of the images on which one of them alone is right. ours, theirs: whether they are, bool [n].
    """
    from scipy.stats import binomtest

    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(chances: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several tests hold when all are meant to hold together (Holm 1979): the k-th smallest of n chances must
    not exceed level / (n - k + 1), nor may any before it.
    """
    order, found = sorted(range(len(chances)), key=lambda i: chances[i]), [False] * len(chances)
    for place, i in enumerate(order):
        if chances[i] > level / (len(chances) - place):
            break
        found[i] = True
    return found


def tau(predicted: Sequence[float], measured: Sequence[float], seed: int, rounds: int = 2000) -> Estimate:
    """Kendall's tau-b and its bootstrap interval over networks; rounds with all of one side equal are left out.

    A network that is drawn w times counts w times in every pair: tau of a round is a quotient of forms in w.
    """
    value, n = kendall_tau(predicted, measured), len(measured)
    drawn = np.random.default_rng(seed).integers(n, size=(rounds, n))
    times = np.stack([(drawn == i).sum(1) for i in range(n)], 1).astype(float)  # [rounds, n]
    a, b = (np.sign(np.subtract.outer(ranks, ranks)) for ranks in (_ranks(predicted), _ranks(measured)))
    together, scale = _form(times, a * b), np.sqrt(_form(times, a * a) * _form(times, b * b))
    low, high = np.percentile(together[scale > 0] / scale[scale > 0], LEVEL) if (scale > 0).any() else (np.nan,) * 2
    return Estimate(float("nan") if value is None else value, float(low), float(high))


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Places in ascending order: infinities cannot be subtracted."""
    return np.unique(np.asarray(values, float), return_inverse=True)[1]


def _form(times: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """w' S w for every row w of `times`."""
    return ((times @ signs) * times).sum(1)


def affordable(cost: Mapping[Columns, float], limit: float) -> list[Columns]:
    """Those that cost `limit` at most, in the order of `cost`."""
    return [path for path in cost if cost[path] <= limit]


def pick(
    within: Sequence[Columns], score: Mapping[Columns, float], again: Mapping[Columns, float], pool: int
) -> Columns:
    """The best by `again` among the `pool` best by `score`; ties by score, then by path."""
    best = sorted(within, key=lambda path: (-score[path], path))[:pool]
    return min(best, key=lambda path: (-again[path], -score[path], path))


def regret(within: Sequence[Columns], chosen: Columns, accuracy: Mapping[Columns, float]) -> float:
    """By how many points the best of `within` beats the one that was chosen."""
    return max(accuracy[path] for path in within) - accuracy[chosen]


def random_pick(
    within: Sequence[Columns],
    liked: Mapping[Columns, float] | None,
    accuracy: Mapping[Columns, float],
    count: int,
    seed: int,
) -> float:
    """Expected accuracy of the authors' random search: the one that is `liked` best among `count` random candidates
    (without `liked` a random one), mean over 1,000 searches.
    """
    if liked is None:
        return float(np.mean([accuracy[path] for path in within]))
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(1000):
        drawn = generator.permutation(len(within))[:count]
        found.append(accuracy[within[max(drawn, key=lambda i: liked[within[i]])]])
    return float(np.mean(found))
