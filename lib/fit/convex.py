"""Convex problems that have no closed form, by L-BFGS."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64

Bounds = Sequence[tuple[float | None, float | None]]  # of each variable; None: without one


def minimise(
    loss: Callable[[torch.Tensor], torch.Tensor],
    start: Float[torch.Tensor, " p"],
    bounds: Bounds | None = None,
    **options: float,
) -> Float64[torch.Tensor, " p"]:
    """The variables [p], in float64 on the CPU, at which a convex `loss` is least: from `start` [p], by L-BFGS-B with
    gradients from autograd.

    loss: variables [p] -> a scalar tensor; options: of scipy's L-BFGS-B, `gtol`, `ftol`, `maxiter` and `maxfun`.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        variables = torch.from_numpy(theta).requires_grad_()
        found = loss(variables)
        (gradient,) = torch.autograd.grad(found, variables)
        return found.item(), gradient.numpy()

    with torch.enable_grad(), threadpool_limits(1, "blas"):  # more would wait for each other: its vectors are short
        best = minimize(value, start.double().numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(best.x)
