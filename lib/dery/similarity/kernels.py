"""Kernels by what they make of a centred linear kernel K with diagonal q: linear, U-centred, Gaussian."""

import numpy as np
import torch

from .gram import Blocks, Finish, Kernel


def linear() -> Kernel:
    """K itself: <K, L> / n^2 is the biased HSIC."""
    return Kernel()


def unbiased(n: int) -> Kernel:
    """K without its diagonal, U-centred (Szekely and Rizzo 2014): <K, L> / (n (n - 3)) is the unbiased HSIC.

    K's rows sum to 0, so without the diagonal they sum to -q.
    """

    def finish(made: Blocks, diagonal: torch.Tensor) -> None:
        shift = (diagonal / (n - 2) - diagonal.sum() / (2 * (n - 1) * (n - 2))).float()
        for r, c, block in made:
            block.add_(shift[r, None]).add_(shift[c])
            if r == c:
                block.fill_diagonal_(0)
            block.mul_(float(np.sqrt(n / (n - 3))))

    return Kernel(finish)


def gaussian(n: int, bandwidth: float) -> Kernel:
    """exp(-|x - x'|^2 / (2 sigma^2)), centred; sigma = bandwidth times the median distance of two images.

    Distances of 0 are left out of the median where more than half are (images that occur many times). Differs from the
    paper's code, whose median is of all n^2 distances, each image's own to itself among them.
    """

    def survey(made: Blocks, diagonal: torch.Tensor) -> Finish:
        _to_squared_distances(made, diagonal)
        factor = -1 / (2 * bandwidth**2 * _median(made))
        sums = torch.zeros(n, dtype=torch.float64, device=diagonal.device)
        for r, c, block in made:
            block.mul_(factor).exp_()
            sums[r] += block.sum(1, dtype=torch.float64)
            if r != c:
                sums[c] += block.sum(0, dtype=torch.float64)
        shift = (sums / n - sums.sum() / (2 * n**2)).float()

        def finish(made: Blocks, diagonal: torch.Tensor) -> None:
            _to_squared_distances(made, diagonal)
            for r, c, block in made:
                block.mul_(factor).exp_().sub_(shift[r, None]).sub_(shift[c])

        return finish

    return Kernel(survey=survey)


def _to_squared_distances(made: Blocks, diagonal: torch.Tensor) -> None:
    norms = diagonal.float()
    for r, c, block in made:
        block.mul_(-2).add_(norms[r, None]).add_(norms[c]).clamp_(min=0)
        if r == c:
            block.fill_diagonal_(0)


def _median(squares: Blocks) -> float:
    """The lower median of the squared distances between different images."""
    above = [
        block[tuple(torch.triu_indices(*block.shape, offset=1, device=block.device))] if r == c else block.flatten()
        for r, c, block in squares
    ]
    values = torch.cat(above).cpu().numpy()
    middle = np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2]
    if middle == 0:
        values = values[values > 0]
        middle = np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2]
    return float(middle)
