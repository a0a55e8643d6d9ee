"""Convex problems by L-BFGS."""

import pytest
import scipy.optimize  # noqa: F401  its algebra is there before threads are counted
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from lib.fit.convex import minimise


def _blas() -> set[int]:
    """On how many threads numpy's and scipy's algebra runs."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_least_is_found_within_bounds() -> None:
    found = minimise(lambda v: (v - torch.tensor([1.0, -2, 3])).square().sum(), torch.zeros(3), [(0, None)] * 3)
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 3]).double())


def test_its_own_algebra_takes_one_thread_and_leaves_the_others_theirs() -> None:
    if not _blas():
        pytest.skip("this system's algebra does not tell its threads")
    inside = set[int]()

    def loss(variables: torch.Tensor) -> torch.Tensor:
        inside.update(_blas())
        return variables.square().sum()

    with threadpool_limits(2, "blas"):
        minimise(loss, torch.ones(3))
        assert _blas() == {2}
    assert inside == {1}
