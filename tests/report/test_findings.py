"""Reading what the stages wrote; only what params.yaml lists is looked at."""

from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.report import findings
from lib.report.findings import Findings
from stages import report
from tests.report.made import findings as made

PARAMS = """
zoo:
  training: {epochs: 1, batch_size: 2, learning_rate: 0.1, weight_decay: 0, warmup: 0, label_smoothing: 0}
  models:
    net_00: {factory: "a.py:small_cnn", weights: train, classes: 0-1}
    net_01: {timm: resnet18, weights: train}
finetune:
  ranks: [1]
  frozen: &none {epochs: 0, batch_size: 2, learning_rate: 0.1, weight_decay: 0, warmup: 0, label_smoothing: 0}
  full: *none
contributions:
  models: [net_00, net_01]
  images_per_class: 1
  conv: {alpha: 0.3, beta: 0.2}
  linear: {alpha: 0.4, beta: 0.3}
  batch_size: 1
components: {tasks: {task_one: {model: net_00, classes: 0-1}, single: {model: net_01, classes: "2"}}}
report: {title: A title}
"""
TASKS = ["task_one", "single"]
PLACES = {
    "metrics": Path("metrics"),
    "similarity": Path("similarity"),
    "partition": Path("partition.json"),
    "assembly": Path("assembly"),
    "contributions": Path("contributions"),
    "components": Path("components"),
}


def write(found: Findings) -> None:
    """The files from which `gather` would read `found`."""
    for stage, items in found.metrics.items():
        for item, content in items.items():
            artifacts.write_metrics(Path("metrics", stage, f"{item}.json"), content)
    for rank, rows in found.curves.items():
        artifacts.write_metrics(Path(f"metrics/finetune/r{rank}.curve.json"), rows)
        artifacts.write_json(Path(f"assembly/candidates/r{rank}/recipe.json"), found.candidates[rank])
    matrix = torch.tensor(found.similarity, dtype=torch.float64)
    artifacts.write_tensors(Path("similarity/similarity.safetensors"), {"similarity": matrix})
    artifacts.write_json(Path("similarity/nodes.json"), {"nodes": [{"model": model} for model in found.rows]})
    artifacts.write_json(Path("partition.json"), found.partition.to_dict())
    artifacts.write_json(Path("assembly/assembly.json"), found.assembly)
    for name, rows in found.kept.items():
        artifacts.write_csv(Path("contributions", name, "kept.csv"), pandas.DataFrame(rows))
    for name, masks in found.masks.items():
        tensors = {layer: torch.tensor(rows) for layer, rows in masks.items()}
        artifacts.write_tensors(Path("contributions", name, "masks.safetensors"), tensors)
    for task, recipe in found.components.items():
        artifacts.write_json(Path("components", task, "recipe.json"), recipe)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    write(made(networks=2, ranks=1))
    return tmp_path


def test_gather_reads_what_was_written(here: Path) -> None:
    expected = made(networks=2, ranks=1)
    found = findings.gather(
        title="Brickyard", zoo=expected.zoo, ranks=[1], taken_apart=["net_01", "net_00"], tasks=TASKS, **PLACES
    )
    assert found == expected


def test_gather_names_what_is_missing(here: Path) -> None:
    Path("similarity/nodes.json").unlink()
    with pytest.raises(BrickyardError, match=r"nodes\.json not found"):
        findings.gather(title="", zoo={}, ranks=[1], taken_apart=[], tasks=[], **PLACES)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics/dataset/dataset.json", {}),
        ("metrics/lego/lego.json", []),
        ("metrics/zoo/net_00.json", {"params": "<b>", "macs": 1, "accuracy": None}),
        ("assembly/assembly.json", {"candidates": []}),
        ("components/task_one/recipe.json", {"source": 1}),
    ],
)
def test_findings_of_other_code_are_one_line(file: str, content: Any, here: Path) -> None:
    (artifacts.write_metrics if file.startswith("metrics") else artifacts.write_json)(Path(file), content)
    with pytest.raises(BrickyardError, match=r"metrics and artifacts are not those of this code .*; dvc repro makes"):
        report.main(**PLACES, out=Path("first"))
    assert not Path("first").exists()


def test_a_partition_of_other_code_is_one_line(here: Path) -> None:
    artifacts.write_json(Path("partition.json"), {"models": {}})
    with pytest.raises(BrickyardError, match=r"^partition\.json: damaged: size is missing; .*; dvc repro$"):
        report.main(**PLACES, out=Path("first"))
    assert not Path("first").exists()


def test_stage_writes_the_page_and_ignores_what_is_not_listed(here: Path) -> None:
    report.main(**PLACES, out=Path("first"))
    Path("metrics/zoo/removed.json").write_text("not JSON")
    Path("contributions/removed").mkdir()
    Path("metrics/finetune/r2.json").write_text("not JSON")
    report.main(**PLACES, out=Path("second"))
    page = Path("first/report.html").read_bytes()
    assert Path("second/report.html").read_bytes() == page
    assert b"<h1>A title</h1>" in page
    assert b"small_cnn (factory)" in page
    assert b"resnet18" in page
    assert not Path("contributions/removed").exists()
    assert not Path("metrics/finetune/r2.json").exists()
