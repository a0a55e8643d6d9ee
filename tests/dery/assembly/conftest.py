"""What tests of ranking and joining have in common: images that measure, and the problem of the pico networks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lib.dery.assembly import built, prices
from lib.dery.assembly.built import Measures
from lib.dery.assembly.material import Bricks
from lib.dery.paths.problem import AssemblyProblem
from lib.images.data import DataSet
from lib.params.assembly import Assembly


@pytest.fixture(scope="module")
def measures(images: DataSet) -> Measures:
    """Twenty images of each half."""
    budget = {"params": None, "macs": None}
    counts = {"pool": 5, "head_images": 40, "random_assemblies": 2, "batch_size": 16}
    asked = Assembly.model_validate({"budget": budget, "min_sources": 2, "rank_on": "train", **counts})
    return built.measures(images, asked, 0)


@pytest.fixture
def task(bricks: Bricks, params: Callable[..., Assembly]) -> AssemblyProblem:
    return replace(prices.assembly_problem(bricks, params(), Path("data/latency.json")), min_sources=1)
