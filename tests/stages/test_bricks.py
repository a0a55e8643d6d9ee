"""Stages `bricks` and `assembly` on pico networks whose blocks are on offer in smaller forms."""

import shutil
import subprocess
import sys
from pathlib import Path

from lib.base import artifacts
from lib.network.files import load_as
from lib.network.reassembled import Reassembled


def stage(repo: Path, name: str, **paths: Path | str) -> None:
    """Runs a stage as DVC does."""
    told = [word for key, path in paths.items() for word in (f"--{key}", str(path))]
    command = [sys.executable, "-m", f"stages.{name}", "--dataset", "artifacts/dataset", *told]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_forms_are_made_offered_and_put_together(made: Path, tmp_path: Path) -> None:
    repo = Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))
    params = repo / "params.yaml"
    text = params.read_text()
    for old, new in (
        ("bricks: {widths: [1], skip: false}", "bricks: {widths: [1, 0.5], skip: true}"),
        ("  min_sources: 2\n", "  min_sources: 1\n"),
        ("  pool: 3\n", "  pool: 6\n"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    params.unlink()
    params.write_text(text)
    out, partition = tmp_path / "bricks", "artifacts/partition/partition.json"
    for model in ("low", "high", "residual"):
        metrics = tmp_path / f"{model}.json"
        zoo = f"artifacts/zoo/{model}"
        stage(repo, "bricks", zoo=zoo, partition=partition, model=model, out=out / model, metrics=metrics)
        told = artifacts.read_json(out / model / "bricks.json")
        assert told["network"] == model
        assert told["widths"] == [0.5] or "no channel lies within one block" in told["whole"]
        figures = artifacts.read_metrics(metrics)
        assert sum(len(own) for own in figures.values()) == len(told["forms"]) > 0
    places = {name: f"artifacts/{name}" for name in ("zoo", "similarity", "edges")}
    places |= {"partition": partition, "bricks": str(out), "latency": "data/latency.json"}
    places |= {"out": str(tmp_path / "assembly"), "metrics": str(tmp_path / "assembly.json")}
    stage(repo, "assembly", **places, pareto=tmp_path / "pareto")
    found = artifacts.read_json(tmp_path / "assembly" / "assembly.json")["candidates"]
    blocks = [block for one in found for block in one["pick"]["blocks"]]
    assert any("width" in block or "without" in block for block in blocks)
    network, recipe = load_as(Reassembled, tmp_path / "assembly" / "candidates" / "r1", trust=True)
    assert sum(p.numel() for p in network.parameters()) == recipe.cost.params
