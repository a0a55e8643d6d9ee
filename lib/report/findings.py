"""What the page shows: the metrics and artifacts of all stages, as they were written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from ..base import artifacts
from ..base.errors import BrickyardError
from ..dery.partition.sets import Partition

Json = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """What params.yaml says of a zoo network: its architecture, weights and classes, as written there."""

    architecture: str
    weights: str
    classes: str


@dataclass(frozen=True)
class Findings:
    """What the page is drawn from.

    metrics: stage -> item -> content.
    similarity: of all pairs of nodes.
    rows: the network of each node.
    curves: rank -> rows.
    candidates: rank -> recipe.
    kept: network -> rows of {class, layer, channels, kept}.
    masks: network -> layer -> [classes, channels].
    components: task -> recipe.
    """

    title: str
    zoo: Mapping[str, Entry]
    ranks: Sequence[int]
    metrics: Mapping[str, Mapping[str, Json]]
    curves: Mapping[int, list[Json]]
    similarity: list[list[float]]
    rows: list[str]
    partition: Partition
    assembly: Json
    candidates: Mapping[int, Json]
    kept: Mapping[str, list[Json]]
    masks: Mapping[str, Mapping[str, list[list[bool]]]]
    components: Mapping[str, Json]

    def single(self, stage: str) -> Json:
        """The metrics of a stage that has one item."""
        return self.metrics[stage][stage]


@contextmanager
def belonging_together() -> Iterator[None]:
    """Metrics and artifacts that are whole, but not what the stages write now, are one line."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, UndefinedError) as error:
        raise BrickyardError(
            f"metrics and artifacts are not those of this code ({type(error).__name__}: {error}); dvc repro makes "
            "them anew"
        ) from error


def gather(
    title: str,
    zoo: Mapping[str, Entry],
    ranks: Sequence[int],
    taken_apart: Sequence[str],
    tasks: Sequence[str],
    metrics: Path,
    similarity: Path,
    partition: Path,
    assembly: Path,
    contributions: Path,
    components: Path,
) -> Findings:
    """Reads what the page needs. Raises BrickyardError naming a file that is missing."""
    items = {stage: [stage] for stage in ("dataset", "similarity", "partition", "assembly", "lego")}
    items |= {"zoo": sorted(zoo), "activations": sorted(zoo), "contributions": sorted(taken_apart)}
    items["components"] = list(tasks)
    items["finetune"] = [f"r{rank}" for rank in sorted(ranks)]
    found = {
        stage: {name: artifacts.read_metrics(metrics / stage / f"{name}.json") for name in names}
        for stage, names in items.items()
    }
    return Findings(
        title=title,
        zoo={name: zoo[name] for name in sorted(zoo)},
        ranks=sorted(ranks),
        metrics=found,
        curves={rank: artifacts.read_metrics(metrics / "finetune" / f"r{rank}.curve.json") for rank in sorted(ranks)},
        similarity=artifacts.read_tensors(similarity / "similarity.safetensors")["similarity"].tolist(),
        rows=[node["model"] for node in artifacts.read_json(similarity / "nodes.json")["nodes"]],
        partition=Partition.read(partition),
        assembly=artifacts.read_json(assembly / "assembly.json"),
        candidates={r: artifacts.read_json(assembly / "candidates" / f"r{r}" / "recipe.json") for r in sorted(ranks)},
        kept={name: _rows(contributions / name / "kept.csv") for name in sorted(taken_apart)},
        masks={name: _masks(contributions / name / "masks.safetensors") for name in sorted(taken_apart)},
        components={task: artifacts.read_json(components / task / "recipe.json") for task in tasks},
    )


def _masks(path: Path) -> dict[str, list[list[bool]]]:
    return {layer: mask.tolist() for layer, mask in artifacts.read_tensors(path).items()}


def _rows(path: Path) -> list[Json]:
    return [{**row, "channels": int(row["channels"]), "kept": int(row["kept"])} for row in artifacts.read_csv(path)]
