"""What combinations of networks are worth, against the definition and all of them."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lib.base.errors import BrickyardError
from lib.mda.choice import offers, prices, ranking, search, selection
from lib.mda.choice.evaluation import halves
from lib.mda.choice.kept import Kept, keep
from lib.mda.choice.ranking import Answers
from lib.trace.cost import Cost

CLASSES = ("a", "b", "c", "d", "e")
KNOWN = {"one": CLASSES, "two": CLASSES[:4], "three": CLASSES[1:]}


def _answers(seed: int, per_class: int) -> Answers:
    """Networks that are right more often than not, each with a scale of its own; of one class twice as many images."""
    generator = torch.Generator().manual_seed(seed)
    labels = [c for c in (*CLASSES, "e") for _ in range(per_class)]
    logits = {}
    for scale, (name, known) in enumerate(KNOWN.items(), 1):
        noise = torch.randn(len(labels), len(known), generator=generator)
        hit = torch.tensor([[float(c == label) for c in known] for label in labels])
        logits[name] = scale * (noise + 1.5 * hit)
    return Answers(logits, KNOWN, labels)


def _kept(seed: int) -> Kept:
    return keep(_answers(seed + 100, 30), _answers(seed, 20), CLASSES, "affine", 1e-3)


def _problem(kept: Kept, **limits: Any) -> offers.Problem:
    generator = np.random.default_rng(0)
    sources = []
    for name, known in KNOWN.items():
        sets = [frozenset(own) for n in range(1, 6) for own in itertools.combinations(known, n)]
        own = {one: Cost(int(100 * len(one) * generator.uniform(0.5, 1.5))) for one in sets}
        sources.append(offers.Source(name, kept.at_best[name], prices.Listed(own)))
    return offers.Problem(CLASSES, tuple(sources), **limits)


def _naive(kept: Kept, assignment: tuple[int, ...]) -> float:
    """Mean over classes of the share that wins against the classes of all other networks, in percent."""
    shares = []
    for c in range(len(CLASSES)):
        own = [i for i, label in enumerate(kept.labels) if label == c]
        scores = [[kept.scores[m, d, i] for d, m in enumerate(assignment)] for i in own]
        shares.append(np.mean([np.argmax(one) == c for one in scores]))
    return 100 * float(np.mean(shares))


def _legal(problem: offers.Problem) -> list[tuple[int, ...]]:
    knows = [
        one
        for one in itertools.product(range(3), repeat=5)
        if all(c in KNOWN[[*KNOWN][m]] for c, m in zip(CLASSES, one, strict=True))
    ]
    return [one for one in knows if problem.is_legal(one)]


@pytest.mark.parametrize("seed", range(3))
def test_a_combination_is_worth_what_its_classes_win_and_at_best_bounds_it(seed: int) -> None:
    kept = _kept(seed)
    problem = _problem(kept)
    for one in _legal(problem):
        assert kept.accuracy(one) == pytest.approx(_naive(kept, one))
        assert kept.accuracy(one) <= problem.accuracy(one) + 1e-9
    alone = Kept(("one",), CLASSES, kept.scores[:1], kept.labels)
    assert np.mean(list(alone.at_best["one"].values())) == pytest.approx(_naive(alone, (0,) * 5))
    assert list(kept.at_best["two"]) == list(CLASSES[:4])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("least", [1, 2])
def test_all_are_compared_where_they_are_few(seed: int, least: int) -> None:
    kept = _kept(seed)
    for limit in (450, 600, None):
        problem = _problem(kept, params=limit, least=least)
        legal = {one: _naive(kept, one) for one in _legal(problem)}
        if not legal:
            with pytest.raises(BrickyardError, match="no choice of components is within"):
                search.propose(problem, kept, lambda _: 0.0)
            continue
        judged = {str(problem.tasks(one)): value for one, value in legal.items()}
        found = search.propose(problem, kept, lambda tasks, judged=judged: judged[str(tasks)])
        assert found.is_complete
        assert found.looked_at == len(legal)
        most = 3
        for choice in found.choices:
            best = max(value for one, value in legal.items() if len({*one}) <= most)
            assert choice.accuracy == pytest.approx(best)
            assert choice.bound == pytest.approx(best)
            assert choice.cost == problem.cost(choice.assignment(problem))
            most = len(choice.tasks) - 1
        assert not any(len({*one}) <= most for one in legal)


@pytest.mark.parametrize("seed", range(3))
def test_of_many_the_neighbourhood_is_searched(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ASSIGNMENTS", 0)
    kept = _kept(seed)
    for limit in (600, None):
        problem = _problem(kept, params=limit)
        found = search.propose(problem, kept, lambda tasks: -len(str(tasks)))
        best = max(_naive(kept, one) for one in _legal(problem))
        start = selection.choose(problem).assignment(problem)
        assert not found.is_complete
        assert found.looked_at < len(_legal(problem))
        assert found.choices[0].bound >= best - 1e-6
        by_worth = search.propose(problem, kept, lambda tasks, p=problem: kept.accuracy(_assignment(p, tasks)))
        assert _naive(kept, start) <= by_worth.choices[0].accuracy + 1e-9
        assert by_worth.choices[0].accuracy == pytest.approx(best)
        for choice in found.choices:
            assert problem.is_legal(choice.assignment(problem))


def _assignment(problem: offers.Problem, tasks: dict[str, tuple[str, ...]]) -> tuple[int, ...]:
    return selection.Choice(tasks, 0, 0, Cost()).assignment(problem)


def test_each_network_is_scaled_by_what_it_knows() -> None:
    train, asked = _answers(1, 30), _answers(2, 20)
    plain = keep(train, asked, CLASSES, "none", 1e-3)
    assert np.array_equal(plain.scores[1, :4].T, asked.logits["two"].numpy())
    assert np.isnan(plain.scores[1, 4]).all()
    scaled = keep(train, asked, CLASSES, "temperature", 1e-3)
    ratio = scaled.scores[0] / plain.scores[0]
    assert ratio == pytest.approx(ratio[0, 0], rel=1e-4)
    spread = [np.nanstd(scaled.scores[m]) for m in range(3)]
    assert max(spread) < 2 * min(spread)
    assert np.nanstd(plain.scores[2]) > 2 * np.nanstd(plain.scores[0])


def test_halves_have_equally_many_of_each_class_unless_these_are_few() -> None:
    labels = np.repeat([0, 1, 2], [20, 13, 40])
    images: Any = SimpleNamespace(labels=labels)
    index = np.arange(2, 71)
    one, other = halves(images, index, 0)
    assert sorted([*one, *other]) == index.tolist()
    assert np.abs(np.bincount(labels[one]) - np.bincount(labels[other])).max() <= 1
    assert not np.array_equal(halves(images, index, 1)[0], one)
    few = index[labels[index] != 1]
    assert [part.tolist() for part in halves(images, np.append(few, [20] * 9), 0)] == [[*few, *[20] * 9]] * 2


def test_a_class_may_be_lost_to_one_of_another_network() -> None:
    """Each of two networks knows its own two classes, but one is as sure of strange images as of its own."""
    names = ("a", "b", "c")
    labels = [name for name in names for _ in range(10)]
    target = torch.eye(3).repeat_interleave(10, 0)
    quiet, loud = 4 * target, 4 * target
    loud[20:] = torch.tensor([0.0, 9.0, 10.0])  # right about c, and nearly as sure of b
    answers = Answers({"quiet": quiet, "loud": loud}, {"quiet": names, "loud": names}, labels)
    found = ranking.accuracy({"quiet": ("a", "c"), "loud": ("b",)}, answers, answers, "none", 1.0)
    assert found == pytest.approx(200 / 3)  # c is taken for b
    assert keep(answers, answers, names, "none", 1.0).accuracy((0, 1, 0)) == pytest.approx(200 / 3)
    assert ranking.accuracy({"quiet": ("c", "b", "a")}, answers, answers, "none", 1.0) == 100
    assert ranking.accuracy({"loud": ("b", "c"), "quiet": ("a",)}, answers, answers, "none", 1.0) == 100
