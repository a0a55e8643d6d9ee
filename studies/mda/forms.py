"""Table 4: contributions against the materialised form, and padded against parallel assemblies."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.mda.contributions import contribution
from lib.params.base import read
from lib.params.components import Repair
from lib.params.run import Run
from stages import prepare, run
from studies.mda.assemblies import assembled
from studies.mda.lab import Lab, Source, Way
from studies.mda.materialised import materialised
from studies.mda.tasks import TASKS
from studies.sheet import Result, Sheet, cells

REPEATS = 3
SPLIT = ("0-2", "3-9")
IMAGES = 500  # test images, on which logits are compared


def peak(run: Callable[[], object]) -> int:
    """Most bytes that the tensors of a run hold at once, on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    assert found.profiler is not None
    results: Any = found.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def main(model: str, dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes times, memory and forms of network `model` to `metrics`.

    dataset, zoo, sources: folders of the stages of these names, with all items.
    """
    prepare(read("run", Run))
    artifacts.write_metrics(metrics, found(Lab(dataset, zoo, sources), model))


def found(lab: Lab, name: str) -> dict[str, Any]:
    """Ratios of time depend on the machine; the others do not."""
    return {"contributions": _contributions(lab, lab.source(name)), "assembly": _pair(lab, lab.source(name))}


def result(found: Mapping[str, Any]) -> Result:
    """A row a network; found: by network."""
    speed = [own["contributions"] for own in found.values()]
    pairs = [own["assembly"] for own in found.values()]
    return Result({"contributions": speed, "assemblies": pairs}, (_speed_sheet(speed), _pair_sheet(pairs)))


def _way(lab: Lab) -> Way:
    return Way(read("components.repair", Repair), hard=lab.params.hard)


def _contributions(lab: Lab, source: Source) -> dict[str, Any]:
    """One class's images in one batch."""
    layers = [layer for layer in source.coupling.layers if layer.groups == 1]
    batches = list(lab.loader(source.card.input, source.selected[0], lab.params.images_per_class))

    def ours() -> dict[str, torch.Tensor]:
        return contribution.contributions(source.module, layers, batches, order=source.coupling.memory_format)

    def theirs() -> dict[str, torch.Tensor]:
        return materialised(source.module, layers, batches)

    a, b = ours(), theirs()
    off = max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp_min(1e-30)) for name in b)
    times = {}
    for label, count in (("ours", ours), ("materialised", theirs)):
        spent = []
        for _ in range(REPEATS):
            started = time.process_time()
            count()
            spent.append(time.process_time() - started)
        times[label] = min(spent)
    memory = {"ours": peak(ours), "materialised": peak(theirs)}
    return {
        "source": source.name,
        "seconds": times,
        "bytes": memory,
        "speedup": times["materialised"] / times["ours"],
        "memory_ratio": memory["materialised"] / memory["ours"],
        "difference": off,
    }


def _pair(lab: Lab, source: Source) -> dict[str, Any]:
    """Components of one network, all ten classes between them, in both forms."""
    first, second = (source.component(TASKS[task], _way(lab)) for task in SPLIT)
    parts = {"first": first, "second": second}
    x = lab.tensor(source.card.input, "test")[:IMAGES]
    network, recipe = assembled(parts, "parallel")
    costs = [part.recipe.cost for part in parts.values()]
    whole = {"params": sum(c.params for c in costs), "macs": sum(c.macs for c in costs)}
    found: dict[str, Any] = {"source": source.name, "parts": whole, "parallel": _size(recipe.cost, whole)}
    with torch.no_grad():
        beside = torch.cat([part.module(x) for part in parts.values()], 1)
        logits = network(x)
        found["parallel_difference"] = _off(logits, beside)
        try:
            padded, padded_recipe = assembled(parts, "padded")
        except BrickyardError as error:
            return {**found, "padded": None, "padded_difference": None, "why": str(error)}
        return {
            **found,
            "padded": _size(padded_recipe.cost, whole),
            "padded_difference": _off(padded(x), logits),
            "why": None,
        }


def _size(cost: Any, whole: dict[str, int]) -> dict[str, float]:
    """As a multiple of the parts'."""
    return {"params": cost.params / whole["params"], "macs": cost.macs / whole["macs"]}


def _off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Greatest difference of logits, relative to the greatest logit."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def _speed_sheet(rows: Sequence[dict[str, Any]]) -> Sheet:
    lines = tuple(
        (
            row["source"],
            *cells([row["speedup"], row["memory_ratio"]]),
            *cells([row["bytes"][label] / 2**20 for label in ("ours", "materialised")]),
            f"{row['difference']:.1e}",
        )
        for row in rows
    )
    notes = (
        "One class's images in one batch. Materialised: a tensor [B, O, I, H, W] of partial convolutions a layer. "
        "Ratios of CPU time and of the most that tensors hold at once, in the same run; difference: relative."
    )
    columns = ("source", "times quicker", "times smaller", "MiB, ours", "MiB, materialised", "difference")
    return Sheet("4a. Contributions against the materialised form", columns, lines, notes)


def _pair_sheet(rows: Sequence[dict[str, Any]]) -> Sheet:
    def ratio(form: dict[str, float] | None) -> tuple[str, ...]:
        return cells([form["params"], form["macs"]] if form else [None, None], 4)

    lines = tuple(
        (
            row["source"],
            *ratio(row["parallel"]),
            *ratio(row["padded"]),
            f"{row['parallel_difference']:.1e}",
            "" if row["padded_difference"] is None else f"{row['padded_difference']:.1e}",
        )
        for row in rows
    )
    columns = (
        *("source", "parallel, params", "parallel, MACs", "padded, params", "padded, MACs"),
        *("parallel - parts", "padded - parallel"),
    )
    notes = (
        f"Components {' and '.join(SPLIT)} of one network; sizes as multiples of their sum. Differences: of logits on "
        f"{IMAGES} test images, relative to the greatest."
    )
    return Sheet("4b. Padded and parallel assemblies", columns, lines, notes)


if __name__ == "__main__":
    run(main)
