"""Pictures: the same bytes for the same values, nothing that two pictures on a page could fight over."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from lib.report import charts
from lib.report.charts import Dot, Profile
from lib.report.diagram import ARROWS, STAGES, pipeline
from lib.report.figures import heat_map, inline
from lib.report.frontier import frontier

MATRIX = np.array([[1.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.75, 1.0]])
GROUPS = ["first", "first", "a <b> & $x$"]
FRONT = [
    {"cost": 1e3, "score": -2.0, "within_budget": True},
    {"cost": 3e3, "score": -1.0, "within_budget": False},
]
DOTS = [Dot("net", 10, 90.0, "own"), Dot("r1", 12, 80.0, "untrained", 1), Dot("r1", 12, 95.0, "full", 1)]


def pictures() -> list[str]:
    shares = Profile(("0.0", "0.3"), (0.5, 0.6), (0.4, 0.5), (0.6, 0.7), {"low": (0.9, 1.0)})
    rows = [
        {"network": n, "protocol": p, "epoch": e, "loss": 1 / e if e else None, "validation_accuracy": 60.0 + e}
        for n, p in (("reassembled", "full"), ("scratch", "scratch"))
        for e in range(4)
    ]
    return [
        heat_map(MATRIX, GROUPS),
        charts.scatter(DOTS, 11, "parameters"),
        charts.curves(rows, "r1", 50),
        charts.profile(shares, "net"),
        frontier(FRONT, 1e3, 2e3, "parameters, k"),
    ]


def test_same_values_same_bytes() -> None:
    first, second = pictures(), pictures()
    assert first == second
    assert not any(re.search(r"\d{4}-\d\d-\d\dT", svg) for svg in first)


@pytest.mark.parametrize("which", range(5), ids=["heat_map", "scatter", "curves", "profile", "frontier"])
def test_inline(which: int) -> None:
    element = inline(pictures()[which], "fig", "a picture")
    tree = ElementTree.fromstring(element)
    assert tree.attrib["aria-label"] == "a picture"
    assert "http" not in element
    assert "<style" not in element
    assert "#1d2733" not in element  # colours follow the page's scheme
    ids = {e.attrib["id"] for e in tree.iter() if "id" in e.attrib}
    assert ids
    assert all(i.startswith("fig-") for i in ids)
    used = set(re.findall(r"url\(#([^)]*)\)", element)) | set(re.findall(r'href="#([^"]*)"', element))
    assert used <= ids


def test_heat_map_escapes_names_and_takes_them_literally() -> None:
    texts = [e.text for e in ElementTree.fromstring(heat_map(MATRIX, GROUPS)).iter() if e.tag.endswith("text")]
    assert texts.count("a <b> & $x$") == 2
    assert texts.count("first") == 2


def test_scatter_names_every_network_once() -> None:
    svg = charts.scatter(DOTS, None, "parameters")
    assert svg.count(">net<") == 1
    assert svg.count(">r1<") == 1
    assert "budget" not in svg
    assert ">budget<" in charts.scatter(DOTS, 11, "parameters")


def test_scatter_leaves_out_names_without_a_place() -> None:
    crowd = [Dot(f"network {i}", 10 + i / 1000, 90 + i / 1000, "own") for i in range(40)]
    assert 1 <= charts.scatter(crowd, None, "parameters").count(">network ") < 40


def test_scatter_moves_networks_of_equal_cost_apart() -> None:
    twins = [*DOTS, Dot("r2", 12, 80.0, "untrained", 2), Dot("r2", 12, 95.0, "full", 2)]
    paths = re.findall(r"<use [^>]*x=\"([\d.]+)\"", charts.scatter(twins, None, "parameters"))
    assert len(set(paths[-4:])) >= 2


def test_profile_thins_layer_names() -> None:
    layers = tuple(f"layer{i}" for i in range(60))
    flat = (0.5,) * 60
    assert charts.profile(Profile(layers, flat, flat, flat, {}), "net").count(">layer") == 12


@pytest.mark.parametrize("tall", [False, True])
def test_pipeline(tall: bool) -> None:
    svg = pipeline({"zoo": "5 < 6"}, tall)
    tree = ElementTree.fromstring(svg)
    names = {e.text for e in tree.iter() if e.attrib.get("class") == "name"}
    assert names == set(STAGES)
    assert svg.count('class="arrow"') == len(ARROWS)
    assert "5 &lt; 6" in svg
    width, height = map(float, tree.attrib["viewBox"].split()[2:])
    for box in (e for e in tree.iter() if e.tag == "rect"):
        assert float(box.attrib["x"]) + float(box.attrib["width"]) <= width
        assert float(box.attrib["y"]) + float(box.attrib["height"]) <= height


def test_frontier_shows_the_budget_where_there_is_one() -> None:
    assert ">budget<" in frontier(FRONT, 1e3, 2e3, "parameters, k")
    assert ">budget<" not in frontier(FRONT, 1e3, None, "parameters, k")
    one = frontier(FRONT[:1], 1, None, "bytes")
    assert ElementTree.fromstring(one).tag.endswith("svg")
