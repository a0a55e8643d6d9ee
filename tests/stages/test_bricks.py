"""Stages `bricks` and `assembly` on pico networks whose blocks are on offer in smaller forms."""

import shutil
from pathlib import Path

import pytest

from commands import latency
from lib.base import artifacts
from lib.chain import latency as latency_file
from lib.dery.paths import sample
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.network.files import load_as
from lib.network.reassembled import Reassembled
from stages import assembly, bricks


def test_forms_are_made_offered_and_put_together(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))
    params = repo / "params.yaml"
    text = params.read_text()
    for old, new in (
        ("bricks: {widths: [1], skip: false}", "bricks: {widths: [1, 0.5], skip: true}"),
        ("  min_sources: 2\n", "  min_sources: 1\n"),
        ("  pool: 3\n", "  pool: 6\n  differ_by: 0\n"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    params.unlink()
    params.write_text(text)
    monkeypatch.chdir(repo)
    dataset, zoo, partition = (Path("artifacts", name) for name in ("dataset", "zoo", "partition/partition.json"))
    out, narrow = tmp_path / "bricks", set[str]()
    for model in ("low", "high", "residual"):
        metrics = tmp_path / f"{model}.json"
        bricks.main(dataset, zoo / model, partition, model, out / model, metrics)
        told = artifacts.read_json(out / model / "bricks.json")
        assert told["network"] == model
        narrow |= {model} if told["widths"] else set()
        assert told["widths"] == [0.5] or "no channel lies within one block" in told["whole"]
        figures = artifacts.read_metrics(metrics)
        assert sum(len(own) for own in figures.values()) == len(told["forms"]) > 0
    similarity, edges, latencies = Path("artifacts/similarity"), Path("artifacts/edges"), Path("data/latency.json")
    latencies.unlink(missing_ok=True)
    latency.main([], Path("artifacts/zoo"), out, latencies, batch_size=1, repeats=1)
    assert set(latency_file.load(latencies).narrow) == narrow
    made_in, pareto = tmp_path / "assembly", tmp_path / "pareto"
    metrics = tmp_path / "assembly.json"
    drawn_from = list[AssemblyProblem]()
    drawing = sample.random_candidates

    def drawn(problem: AssemblyProblem, count: int, seed: int) -> list[Candidate]:
        drawn_from.append(problem)
        return drawing(problem, count, seed)

    monkeypatch.setattr(sample, "random_candidates", drawn)
    assembly.main(dataset, zoo, similarity, partition, edges, out, latencies, made_in, metrics, pareto)
    assert [own.lenders for own in drawn_from] == [()], "a control has whole blocks alone"
    found = artifacts.read_json(made_in / "assembly.json")["candidates"]
    blocks = [block for one in found for block in one["pick"]["blocks"]]
    assert any("width" in block or "without" in block for block in blocks)
    network, recipe = load_as(Reassembled, made_in / "candidates" / "r1", trust=True)
    assert sum(p.numel() for p in network.parameters()) == recipe.cost.params
