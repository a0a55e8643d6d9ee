"""The studies' stages, run as dvc.yaml says, on pico networks."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.cifar10 import page as cifar10_page
from studies.frontier import page as frontier_page
from studies.mda import choices, controls, disassembly
from studies.mda import page as mda_page
from tests.studies.conftest import run_all

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


def figures(place: Path, table: str) -> Any:
    return json.loads((place / f"metrics/tables/{table}.json").read_text())["figures"]


def test_hybrids_are_measured_untrained_and_tuned(cifar10: Path):
    names = run_all(cifar10, "predictors")
    assert {"inputs", "dataset", "zoo@resnet56", "cut@resnets", "untrained@resnets-head", "tuned@resnet20"} <= set(
        names
    )
    found = figures(cifar10, "predictors")
    assert list(found) == ["least_squares", "recalibrated", "head", "layers", "frozen"]
    assert len(found["layers"]["points"]["test"]) == 6
    assert found["layers"]["points"]["params"] == found["frozen"]["points"]["params"]


@pytest.mark.slow
def test_grafts_are_points_for_a_plot(cifar10: Path):
    run_all(cifar10, "grafts@resnets")
    points = json.loads((cifar10 / "metrics/grafts/resnets.points.json").read_text())
    assert len(points) == 6
    assert all(0 <= row["accuracy"] <= 100 and row["front"] != row["back"] for row in points)
    found = json.loads((cifar10 / "metrics/grafts/resnets.json").read_text())
    assert sum(own["count"] for own in found["kept"].values()) == found["grafts"] == 6


@pytest.mark.slow
def test_every_table_of_cifar10_is_made_and_the_page_written(cifar10: Path):
    run_all(cifar10, "page")
    one, three = figures(cifar10, "hybrids"), figures(cifar10, "budgets")
    measured = [row["recalibrated"] for row in one["networks"] if row["hybrid"]]
    assert one["recalibrated"]["mean"] == pytest.approx(np.mean(measured))
    assert list(three) == ["without training", "without training, layers refitted", "frozen", "frozen, then full"]
    for row in three["without training"]["rows"]:
        within = [own for own in one["networks"] if own["hybrid"] and own["params"] <= row["limit"]]
        assert row["best_accuracy"] == max(own["recalibrated"] for own in within)
        assert row["pick_accuracy"] <= row["best_accuracy"]
    written = (cifar10 / "../../docs/results.md").read_text()
    assert all(f"### {number}. {title}" in written for number, title in enumerate(cifar10_page.TITLES.values(), 1))
    assert "![budgets.svg](../studies/cifar10/plots/budgets.svg)" in written


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_zoo_of_frontier_is_measured_and_the_page_written(frontier: Path):
    run_all(frontier, "tables@specialists")
    found = figures(frontier, "specialists")
    assert list(found) == ["validation", "apart"]
    for own in found.values():
        assert [told["budgets"] for told in own.values()] == [6, 6, 4]
        assert list(own) == ["untrained", "frozen", "full"]
        assert all(told["won_after_holm"] <= told["won"] for told in own.values())
    with chdir(frontier):
        frontier_page.main(Path("metrics/tables"), Path("plots"), Path("../../docs"))
    written = (frontier / "../../docs/frontier.md").read_text()
    assert "![frontier.svg](../studies/frontier/plots/frontier.svg)" in written
    assert "## Zoo specialists" in written


@pytest.mark.slow
def test_every_table_of_mda_is_made_and_the_page_written(mda: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (disassembly, choices, controls):
        monkeypatch.setattr(module, "TASKS", {"0-2": (0, 1, 2)})
    monkeypatch.setattr(controls, "ON", ("0-2",))
    monkeypatch.setattr(choices, "ON", ("0-2",))
    run_all(mda, "page")
    one, two = figures(mda, "disassembly"), figures(mda, "assemblies")
    assert len(one["rows"]) == 7
    assert one["gaps"]["official"]["vgg"]["gap"] == max(
        row["restricted"] - row["official"] for row in one["rows"] if row["source"].startswith("vgg")
    )
    assert [len(row["parts"]) for row in two["rows"]] == [2, 3]
    written = (mda / "../../docs/results.md").read_text()
    assert all(f"### {number}. {title}" in written for number, title in enumerate(mda_page.TITLES.values(), 1))
    assert "![routes.svg](../studies/mda/plots/routes.svg)" in written
