"""Similarity of activation matrices: linear CKA (Kornblith et al. 2019), the index s(X, X') of DeRy, section 3.2."""

import torch


def cka(matrices: list[torch.Tensor]) -> torch.Tensor:
    """Linear CKA of every pair: L matrices [n, d_i], rows the same images -> float64 [L, L], symmetric, diagonal 1.

    CKA(X, Y) = <K, M>_F / (||K||_F ||M||_F) with the centred Gram matrices K = XX' and M = YY': one Gram matrix a
    layer, then one product over all of them, normalised by its own diagonal. A constant layer is similar to nothing,
    itself excepted.
    """
    grams = torch.stack([_centred_gram(matrix).flatten() for matrix in matrices])
    products = (grams @ grams.T).double()
    scale = products.diagonal().sqrt()
    scale = torch.where(scale > 0, scale, torch.inf)
    similarity = products / scale[:, None] / scale[None, :]
    return similarity.fill_diagonal_(1.0)


def _centred_gram(matrix: torch.Tensor) -> torch.Tensor:
    """K = XX' of the column-centred X, [n, n] float32, scaled to unit mean diagonal so that no product overflows."""
    centred = matrix.double() - matrix.double().mean(0)
    gram = centred @ centred.T
    scale = gram.diagonal().mean()
    return (gram / scale if scale > 0 else gram).float()
