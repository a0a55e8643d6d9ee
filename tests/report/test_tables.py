"""Numbers in words, and the rows of the tables."""

import pytest

from lib.report import tables
from tests.report.made import findings, with_metrics


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_234, "1.23 k"),
        (999_600, "1.00 M"),
        (9_539_520, "9.54 M"),
        (9_996_000, "10.0 M"),
        (21_898_176, "21.9 M"),
        (99_960_000, "100 M"),
        (4_110_000_000, "4.11 G"),
        (None, "–"),
    ],
)
def test_amount(value: float | None, text: str) -> None:
    assert tables.amount(value).replace("\u202f", " ") == text


def test_formats() -> None:
    assert tables.percent(98.2222) == "98.2\u202f%"
    assert tables.percent(None) == "–"
    assert tables.count(197210) == "197,210"
    assert tables.signed(-1.01636) == "−1.016"
    assert tables.shortened(["a", "b"]) == "a, b"
    assert tables.shortened([str(i) for i in range(1000)]) == "0, 1, 2, 3, 4, 5 … 999 (1,000 classes)"


def test_standard_error() -> None:
    assert tables.standard_error(90.0, 900) == pytest.approx(1.0)
    assert tables.standard_error(100.0, 900) is None


def test_headline_is_chosen_by_validation_not_by_test() -> None:
    found = findings(ranks=2)
    second = {**found.metrics["finetune"]["r2"], "validation": {"untrained": 1.0, "frozen": 1.0, "full": 99.9}}
    second["test"] = {"untrained": 1.0, "frozen": 1.0, "full": 50.0}
    best = tables.headline(with_metrics(found, "finetune", "r2", second))["best"]
    assert (best["rank"], best["test"], best["scores"]["scratch"]) == (2, 50.0, None)


def test_tuned_ends_with_the_last_protocol_that_ran() -> None:
    found = findings(ranks=1)
    scores = {**found.metrics["finetune"]["r1"], "test": {"untrained": 81.0, "frozen": 86.0, "scratch": 70.0}}
    row = tables.tuned(with_metrics(found, "finetune", "r1", scores))[0]
    assert (row["last"], row["test"]) == ("frozen", 86.0)
    assert row["scores"] == {
        "untrained": 81.0,
        "frozen": 86.0,
        "full": None,
        "stacked": None,
        "scratch": 70.0,
        "zoo": None,
    }
    assert row["blocks"] == ["net_00, nodes 1–4", "net_00, nodes 5–6", "+ net_01, nodes 5–6"]


def test_heads_that_were_fitted_last_are_told() -> None:
    first, second = tables.tuned(findings(ranks=2))
    assert (first["last"], first["scores"]["stacked"]) == ("full", None)
    assert (second["last"], second["test"]) == ("stacked", second["scores"]["stacked"])


def test_drawn_splits_a_run_of_nodes_by_set() -> None:
    own, other = tables.drawn(findings(), 1)
    assert (own["end"], own["weight"]) == ("head of net_00", 0.5)
    assert [piece["shared"] for piece in own["pieces"]] == [False, False, False]
    assert [piece["shared"] for piece in other["pieces"]] == [True, True, False, False]
    first, second, stitch, third = other["pieces"]
    assert [(b["source"], b["set"], b["span"]) for b in (first, second, third)] == [
        ("net_00", 0, "nodes 1–2"),
        ("net_00", 1, "nodes 3–4"),
        ("net_01", 2, "nodes 5–6"),
    ]
    assert (first["joined"], first["joins"], second["joined"], second["joins"]) == (False, True, True, False)
    assert (stitch["source"], stitch["target"]) == ("64 × 4×4", "48")


def test_a_head_that_labels_have_fitted_says_so() -> None:
    found = findings()
    for tail in found.candidates[1]["tails"]:
        tail["stacked"] = {"images": 20, "ridge": 0.005}
    assert [tail["end"] for tail in tables.drawn(found, 1)] == [
        "head of net_00, fitted to labels",
        "new linear head (LDA), fitted to labels",
    ]


def test_bars_mark_one_anchor_a_set() -> None:
    blocks = [block for row in tables.bars(findings()) for block in row["blocks"]]
    assert sorted(block["set"] for block in blocks if block["anchor"]) == [0, 1, 2]


def test_components_show_accuracy_or_auroc() -> None:
    several, single = tables.components(findings())
    assert several["scores"]["component"] == "94.3\u202f%"
    assert single["scores"] == {
        "source_all": "AUROC 0.988",
        "source_restricted": "AUROC 0.977",
        "component": "AUROC 0.000",
    }


def test_pool_folds_away_what_is_long() -> None:
    shown, folded = tables.pool(findings(pool=40, ranks=2))
    assert len(shown) + len(folded) == 40
    assert [row["place"] for row in shown if row["tuned"]] == [1, 2]
    assert tables.pool(findings(pool=4))[1] == []
