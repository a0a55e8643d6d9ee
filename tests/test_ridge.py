"""Ridge regression against the direct solution."""

import pytest
import torch

from lib.ridge import NormalEquations


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
    equations.add(x, y + torch.randn_like(y))
    fit = equations.solve(1.0, match_variance=True)
    fitted = x @ fit.weight.double() + fit.bias.double()
    plain = equations.solve(1.0)
    assert (x @ plain.weight.double()).var(0).lt(fitted.var(0)).all()


def test_fewer_rows_than_inputs_still_has_a_solution() -> None:
    equations = NormalEquations(20, 1)
    equations.add(torch.randn(5, 20), torch.randn(5, 1))
    fit = equations.solve(1e-4)
    assert torch.isfinite(fit.weight).all()
    assert fit.r2 > 0.99


def test_without_an_intercept() -> None:
    x, y = torch.randn(40, 3), torch.randn(40, 2)
    sums = NormalEquations(3, 2)
    sums.add(x, y)
    fit = sums.solve(0.0, intercept=False)
    expected = torch.linalg.lstsq(x.double(), y.double()).solution
    torch.testing.assert_close(fit.weight.double(), expected, atol=1e-5, rtol=1e-4)
    assert not fit.bias.any()


def test_the_same_rows_with_other_targets() -> None:
    x, first, second = torch.randn(40, 3), torch.randn(40, 2), torch.randn(40, 2)
    sums, fresh = NormalEquations(3, 2), NormalEquations(3, 2)
    for part in (slice(0, 15), slice(15, 40)):
        sums.add(x[part], first[part])
        fresh.add(x[part], second[part])
    sums.forget_targets()
    for part in (slice(0, 15), slice(15, 40)):
        sums.add(x[part], second[part])
    torch.testing.assert_close(sums.solve(1e-2).weight, fresh.solve(1e-2).weight)
    torch.testing.assert_close(sums.solve(1e-2).bias, fresh.solve(1e-2).bias)
