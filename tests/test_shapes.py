"""That shapes and dtypes in signatures are checked here at all."""

import jaxtyping
import numpy as np
import pytest
import torch

from lib.dery.paths.tables import Table
from lib.fit.ridge import NormalEquations
from lib.mda import accuracies


def test_a_wrong_shape_and_a_wrong_dtype_are_noticed() -> None:
    equations = NormalEquations(3, 2)
    equations.add(torch.rand(4, 3), torch.rand(4, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        equations.add(torch.rand(4, 3), torch.rand(5, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        accuracies.accuracy(torch.rand(4, 3), torch.zeros(4))
    with pytest.raises(jaxtyping.TypeCheckError):
        Table(np.zeros((3, 2)), np.zeros((3, 2, 2)))
