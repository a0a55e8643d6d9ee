import re

import pytest

from lib.report.routes import Route, alike, route, routes

MASKS = {
    "first": [[True, True, False, False], [True, False, True, False]],
    "last": [[True, False], [False, True]],
    "classifier": [[True, False], [False, True]],
}


def test_shares_of_two_routes():
    found = route(MASKS, 0, 1)
    assert found == Route(("first", "last"), (0.25, 0.0), (0.25, 0.5), (0.25, 0.5))
    assert found.overlap == pytest.approx((1 / 3, 0.0))


def test_layers_that_neither_uses_overlap_by_nothing():
    assert Route(("a",), (0.0,), (0.0,), (0.0,)).overlap == (0.0,)


def test_picture_is_the_same_every_time_and_names_everything():
    svg = routes({"net": MASKS, "other": MASKS}, ["cat", "dog"], [(0, 1), (1, 0)])
    assert svg == routes({"net": MASKS, "other": MASKS}, ["cat", "dog"], [(0, 1), (1, 0)])
    for text in ("net: cat, dog", "other: dog, cat", "only cat", "neither"):
        assert re.search(f">{text}<", svg)


def test_classes_that_share_most_and_least():
    masks = {"a": [[True, True, False], [True, True, True], [False, False, True]], "fc": [[True], [True], [True]]}
    assert alike(masks) == [(0, 1), (0, 2)]
    assert alike({"fc": [[True]]}) == []
