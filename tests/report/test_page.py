"""The page: complete, self-contained, escaped, the same bytes every time."""

import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser

import pytest

from lib.report import page
from lib.report.findings import Entry, Findings
from lib.report.tables import MISSING, amount, count, percent, signed
from tests.report.made import findings, with_metrics

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects attributes, ids and text; checks that every tag is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def html() -> str:
    return page.render(findings())


def test_same_bytes_twice(html: str) -> None:
    assert page.render(findings()) == html


def test_self_contained(html: str) -> None:
    reader = read(html)
    assert reader.references
    assert all(reference.startswith(("#", "data:")) for reference in reader.references)
    assert {r[1:] for r in reader.references if r.startswith("#")} <= set(reader.ids)
    assert not re.search(r"https?:|@import|<script|<link", html)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_ids_are_unique(html: str) -> None:
    ids = read(html).ids
    assert len(ids) == len(set(ids))


def test_every_number_is_the_metrics(html: str) -> None:
    found, text = findings(), " ".join(read(html).text.split())
    lego, control = found.single("lego"), found.single("assembly")["controls"]
    numbers = [percent(value) for value in lego["accuracy"].values()]
    numbers += [count(lego["params"]), amount(lego["macs"]), count(lego["parts_params"])]
    for scores in found.metrics["finetune"].values():
        numbers += [percent(value) for value in scores["test"].values()]
        numbers += [count(scores["params"]), amount(scores["macs"])]
    for name in found.zoo:
        own, used = found.metrics["zoo"][name], control["zoo"]["models"][name]
        numbers += [count(own["params"]), amount(own["macs"]), percent(own["accuracy"]["test"])]
        numbers += [percent(used["validation"]), percent(used["test"])]
    numbers += [percent(control["random_assembly"]["mean"]), percent(control["random_assembly"]["max"])]
    for row in found.assembly["candidates"]:
        numbers += [signed(row["score"]), count(row["params"]), amount(row["macs"]), percent(row["rank_accuracy"])]
    for scores in found.metrics["components"].values():
        numbers += [count(scores["params"]), amount(scores["macs"]), percent(100 * scores["share"])]
    numbers += [percent(control[name]["test"]) for name in ("random_search", "paper_search", "ensemble")]
    numbers += ["naswot 0.12", "score −0.46", "234,567 bytes of activations"]
    numbers += ["12.346", "10.988", "0.43", "94.3\u202f%", "AUROC 0.988", "logits mapped to the labels, untuned"]
    plain = text.replace("\u202f", " ")
    assert [number for number in numbers if number.replace("\u202f", " ") not in plain] == []


def test_headline(html: str) -> None:
    text = " ".join(read(html).text.replace("\u202f", " ").split())
    assert "r1 recognises 94.7 % of 400 test images with 200,001 parameters and 15.4 M MACs" in text
    rival = "net_00: 92.6 % tuned in the same way, 90.2 % untuned, 123,456 parameters, 9.88 M MACs"
    assert f"best zoo network within the same budget, {rival}" in text
    assert "recognises 83.5 % (the whole networks side by side: 88.1 %)" in text


def test_a_network_with_labels_of_its_own_was_not_measured_on_them() -> None:
    found = findings()
    zoo = found.metrics["zoo"]
    own = {**zoo, "net_02": {**zoo["net_02"], "accuracy": None}}
    text = "".join(read(page.render(replace(found, metrics={**found.metrics, "zoo": own}))).text.split())
    used = found.single("assembly")["controls"]["zoo"]["models"]["net_02"]
    row = f"{count(zoo['net_02']['params'])}{amount(zoo['net_02']['macs'])}{MISSING}{MISSING}{used['head']}"
    assert "".join(row.split()) in text


def renamed(found: Findings, old: str, new: str) -> Findings:
    """`old` replaced wherever it is a key or part of a text."""

    def change(value):
        if isinstance(value, dict):
            return {change(k): change(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(change(v) for v in value)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{one.name: change(getattr(value, one.name)) for one in fields(value)})
        return value.replace(old, new) if isinstance(value, str) else value

    names = ("zoo", "metrics", "partition", "assembly", "candidates", "kept", "masks", "components", "title")
    return replace(found, **{name: change(getattr(found, name)) for name in names})


def test_names_are_escaped() -> None:
    found, names = findings(), ("net_00", "task_one", "class 0", "Brickyard", "layer.0")
    for number, name in enumerate(names):
        found = renamed(found, name, f"<i x='\"' n={number}>&$n$")
    html = page.render(found)
    assert "<i x=" not in html
    assert all(f" n={number}&gt;" in html for number in range(len(names)))
    read(html)


def test_the_name_of_an_index_is_escaped() -> None:
    found = findings()
    hostile = with_metrics(found, "similarity", "similarity", {**found.single("similarity"), "index": '"><script>'})
    html = page.render(hostile)
    read(html)
    assert "<script" not in html


def test_long_lists() -> None:
    found = findings(networks=20, classes=1000, blocks=6, ranks=12, pool=60)
    found = replace(found, zoo={**found.zoo, "net_03": Entry("a", "b", ", ".join(map(str, range(1000))))})
    html = page.render(found)
    reader = read(html)
    assert len(html) < 2_000_000
    assert len(reader.ids) == len(set(reader.ids))
    assert "44 more candidates" in reader.text
    assert "The first 8 of 12 tuned networks" in reader.text


def test_an_assembly_that_was_chosen_and_tuned() -> None:
    tried = [
        {"tasks": {"net_00": list("abcdefghij"), "net_01": ["k"]}, "params": 1234, "macs": 5_670_000}
        | {"predicted_accuracy": 91.23, "validation_accuracy": 84.56},
        {"tasks": {"net_01": ["a"]}, "params": 234, "macs": 45_600, "predicted_accuracy": 78.9}
        | {"validation_accuracy": 77.65},
    ]
    found = findings(networks=2)
    lego = {**found.single("lego"), "tried": tried, "whole": None, "tuned": {"validation": 90.12, "test": 89.01}}
    html = page.render(with_metrics(found, "lego", "lego", lego))
    text = " ".join(read(html).text.replace("\u202f", " ").split())
    assert "net_00: a, b, c, d, e, f … j (10 classes); net_01: k1,2345.67 M91.2 %84.6 %" in text
    assert "net_01: a23445.6 k78.9 %77.7 %" in text
    assert "then everything tuned89.0 %" in text
    assert "in the third row" in text.lower()
    assert "No whole network is within the budget." in text
    whole = {"name": "net_01", "params": 999, "macs": 1_500, "validation_accuracy": 76.54, "test_accuracy": 75.43}
    html = page.render(with_metrics(found, "lego", "lego", {**lego, "whole": whole}))
    text = " ".join(read(html).text.replace("\u202f", " ").split())
    assert "best whole network within the budget: net_019991.50 k–76.5 %" in text
    assert "it recognises 75.4 % of the test images" in text
    plain = page.render(found)
    assert "The choices within the budget" not in plain
    assert "everything tuned" not in plain


def test_without_what_is_optional() -> None:
    found = findings(ranks=1)
    controls = found.single("assembly")["controls"]
    none: dict = {"random_search": {"candidates": 0}, "ensemble": None}
    none |= {"random_assembly": {"count": 0}, "zoo": {**controls["zoo"], "best_within_budget": None}}
    found = with_metrics(found, "assembly", "assembly", {**found.single("assembly"), "controls": none})
    untrained = {**found.metrics["finetune"]["r1"], "test": {"untrained": 80.0}, "validation": {"untrained": 81.0}}
    found = with_metrics(found, "finetune", "r1", untrained)
    lego = found.single("lego")
    accuracy = {**lego["accuracy"], "mean_component": None, "mean_source_restricted": None}
    found = with_metrics(found, "lego", "lego", {**lego, "accuracy": accuracy})
    budget = dict.fromkeys(("params", "macs", "memory", "latency"))
    bare = {"budget": budget, "bound": None, "pareto": {"params": []}}
    found = replace(found, assembly={**found.assembly, **bare}, curves={1: []})
    text = " ".join(read(page.render(found)).text.split())
    assert "no zoo network is within the same budget" in text
    assert "there is none" in text
    assert "no limit" in text
    assert "none found" in text
    assert "Learning curves" not in text
    assert "What a budget buys" not in text
    assert "by NASWOT" not in text
    assert "bytes of activations" not in text


def test_bound_shows_how_much_of_the_gap_is_closed() -> None:
    found = findings()
    assert "of the gap closed" not in page.render(found)
    text = read(page.render(replace(found, partition=replace(found.partition, bound=13.0)))).text
    assert "67.5\u202f%of the gap closed" in text.replace("\n", "")
