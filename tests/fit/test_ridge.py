"""Ridge regression against the direct solution."""

import pytest
import torch

from lib.fit.ridge import HALVED, NormalEquations, _gram


def _problem() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(200, 6, dtype=torch.float64) + 3
    y = x @ torch.randn(6, 2, dtype=torch.float64) + 1.5 + 0.3 * torch.randn(200, 2, dtype=torch.float64)
    return x, y


def test_equals_the_direct_solution_whatever_the_batches() -> None:
    x, y = _problem()
    ridge = 0.1
    centred = x - x.mean(0)
    penalty = ridge * (centred.T @ centred).diagonal().mean()
    weight = torch.linalg.solve(centred.T @ centred + penalty * torch.eye(6), centred.T @ (y - y.mean(0)))
    for sizes in ([200], [1, 99, 100]):
        equations = NormalEquations(6, 2)
        for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
            equations.add(a, b)
        fit = equations.solve(ridge)
        torch.testing.assert_close(fit.weight.double(), weight, rtol=1e-5, atol=1e-5)
        residual = y - (x @ weight + (y.mean(0) - x.mean(0) @ weight))
        expected = 1 - float(residual.square().sum() / (y - y.mean(0)).square().sum())
        assert fit.r2 == pytest.approx(expected, abs=1e-6)


def test_matched_variances_are_those_of_the_target() -> None:
    x, y = _problem()
    equations = NormalEquations(6, 2)
    noisy = y + torch.randn_like(y)
    equations.add(x, noisy)
    plain = equations.solve(1.0)
    fit = equations.match(plain.weight)
    fitted = x @ fit.weight.double() + fit.bias.double()
    assert (x @ plain.weight.double()).var(0).lt(fitted.var(0)).all()
    torch.testing.assert_close(fitted.var(0), noisy.var(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fitted.mean(0), noisy.mean(0), rtol=1e-5, atol=1e-5)
    constant = equations.match(torch.zeros(6, 2))
    torch.testing.assert_close(constant.bias.double(), noisy.mean(0), rtol=1e-5, atol=1e-5)
    assert constant.r2 == pytest.approx(0, abs=1e-9)


def test_sums_of_two_parts_are_those_of_all_rows_and_judge_each_others_fits() -> None:
    x, y = _problem()
    first, second = NormalEquations(6, 2), NormalEquations(6, 2)
    first.add(x[:150], y[:150])
    second.add(x[150:], y[150:])
    whole = NormalEquations(6, 2)
    whole.add(x, y)
    torch.testing.assert_close((first + second).solve(0.1).weight, whole.solve(0.1).weight)
    fit = first.solve(0.1)
    residual = y[150:] - (x[150:] @ fit.weight.double() + fit.bias.double())
    expected = 1 - float(residual.square().sum() / (y[150:] - y[150:].mean(0)).square().sum())
    assert second.explained(fit) == pytest.approx(expected, abs=1e-6)
    assert first.explained(fit) == pytest.approx(fit.r2, abs=1e-6)


def test_a_penalty_can_pull_towards_given_weights() -> None:
    x, y = _problem()
    equations, given = NormalEquations(6, 2), torch.randn(6, 2)
    equations.add(x, y)
    far = equations.solve(1e6, towards=given)
    torch.testing.assert_close(far.weight, given, atol=1e-4, rtol=1e-4)
    near = equations.solve(1e-9, towards=given)
    torch.testing.assert_close(near.weight, equations.solve(1e-9).weight, atol=1e-5, rtol=1e-5)
    through = equations.solve(0.1, intercept=False)
    weight = torch.linalg.solve(x.T @ x + 0.1 * (x.T @ x).diagonal().mean() * torch.eye(6), x.T @ y)
    torch.testing.assert_close(through.weight.double(), weight, atol=1e-5, rtol=1e-5)
    assert (through.bias == 0).all()


def test_fewer_rows_than_inputs_still_has_a_solution() -> None:
    equations = NormalEquations(20, 1)
    equations.add(torch.randn(5, 20), torch.randn(5, 1))
    fit = equations.solve(1e-4)
    assert torch.isfinite(fit.weight).all()
    assert fit.r2 > 0.99


def test_few_rows_with_large_means_are_not_lost_in_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed, weight = torch.randn(20, 256, generator=generator), torch.randn(256, 4, generator=generator)
    x, again = (torch.randn(n, 20, generator=generator) @ mixed + 100 for n in (64, 500))
    equations = NormalEquations(256, 4)
    equations.add(x, x @ weight)
    fit = equations.solve(1e-4)
    rest = (again @ fit.weight + fit.bias - again @ weight).square().sum()
    truth = again @ weight
    assert rest < 0.02 * (truth - truth.mean(0)).square().sum()
    alone = NormalEquations(256, 4)
    alone.add(x[:1], x[:1] @ weight)
    assert alone.solve(1e-4).weight.abs().max() < 1e-3


def test_the_same_rows_with_other_targets() -> None:
    x, first, second = torch.randn(40, 3), torch.randn(40, 2), torch.randn(40, 2)
    sums, fresh = NormalEquations(3, 2), NormalEquations(3, 2)
    for part in (slice(0, 15), slice(15, 40)):
        sums.add(x[part], first[part])
        sums.solve(1e-2)  # what it factorizes must not outlive the rows
        fresh.add(x[part], second[part])
    sums.forget_targets()
    for part in (slice(0, 15), slice(15, 40)):
        sums.add(x[part], second[part])
    for ridge, intercept in ((1e-2, True), (1e-2, True), (1e-1, True), (1e-1, False)):
        once, again = (equations.solve(ridge, intercept=intercept) for equations in (fresh, sums))
        torch.testing.assert_close(again.weight, once.weight)
        torch.testing.assert_close(again.bias, once.bias)
        alone = NormalEquations(3, 2)
        alone.add(x, second)
        torch.testing.assert_close(alone.solve(ridge, intercept=intercept).weight, once.weight)


@pytest.mark.parametrize("intercept", [True, False])
def test_large_means_do_not_cover_what_varies(intercept: bool) -> None:
    """Rows in float32 whose means are ten thousand times what varies, as behind a pooling: the weights that made Y."""
    generator = torch.Generator().manual_seed(0)
    x = 100 + torch.rand(4096, 6, generator=generator) / 50
    made = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    y = (x.double() @ made).float()
    halves = [NormalEquations(6, 2) for _ in range(2)]
    for equations, rows in zip(halves, torch.arange(4096).split(2048), strict=True):
        for batch in rows.split(500):
            equations.add(x[batch], y[batch])
    fit = (halves[0] + halves[1]).solve(1e-6, towards=made.float(), intercept=intercept)
    assert (fit.weight.double() - made).abs().max() < 1e-2
    assert (x @ fit.weight + fit.bias - y).abs().max() < 1e-3
    assert halves[0].count + halves[1].count == 4096


@pytest.mark.parametrize("columns", [7, HALVED, HALVED + 3])
def test_blocks_of_the_gram_matrix_are_the_whole(columns: int) -> None:
    x = torch.randn(64, columns)
    torch.testing.assert_close(_gram(x), x.T @ x, atol=1e-3, rtol=1e-4)


def test_moments_of_what_a_fit_makes() -> None:
    x, y = _problem()
    equations = NormalEquations(6, 2)
    for a, b in zip(x.split([50, 150]), y.split([50, 150]), strict=True):
        equations.add(a, b)
    for intercept in (True, False):
        fit = equations.solve(0.1, intercept=intercept)
        made = x @ fit.weight.double() + fit.bias.double()
        found = equations.made(fit)
        assert found.count == 200
        torch.testing.assert_close(found.mean, made.mean(0), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.variance, made.var(0, correction=0), atol=1e-6, rtol=1e-6)


def test_the_sum_with_nothing_is_a_copy() -> None:
    x, y = _problem()
    some, none = NormalEquations(6, 2), NormalEquations(6, 2)
    some.add(x, y)
    both = [some + none, none + some]
    some.add(x + 1, y - 1)
    for one in both:
        assert one.count == 200
        assert one.solve(0.1).r2 != some.solve(0.1).r2
