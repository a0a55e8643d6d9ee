"""The diagram shows the pipeline of dvc.yaml."""

from typing import Any

from ruamel.yaml import YAML

from lib.base.code import ROOT
from lib.report.diagram import ARROWS, STAGES, pipeline

DVC: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def _handed_on() -> set[tuple[str, str]]:
    """(stage, a stage that depends on its artifact)."""
    wanted = {name: stage.get("do", stage)["deps"] for name, stage in DVC.items()}
    return {
        (dep.split("/")[1].removesuffix(".json"), name)
        for name, deps in wanted.items()
        for dep in deps
        if dep.startswith("artifacts/")
    }


def test_stages_are_those_of_the_pipeline() -> None:
    assert set(STAGES) == set(DVC) - {"code"}


def test_arrows_are_the_dependencies_of_the_pipeline() -> None:
    handed_on, arrows = _handed_on(), set(ARROWS)
    assert len(arrows) == len(ARROWS)
    ends = {("finetune", "report"), ("lego", "report")}  # through metrics
    assert arrows - handed_on == ends
    omitted = handed_on - arrows
    assert all(start in ("dataset", "zoo") or stop == "report" for start, stop in omitted), omitted
    assert {stop for _, stop in ARROWS} == set(STAGES) - {"dataset"}


def test_every_arrow_is_drawn_in_both_forms_and_inside_the_picture() -> None:
    for tall in (False, True):
        assert pipeline({}, tall).count('class="arrow"') == len(ARROWS)
