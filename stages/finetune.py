"""Stage `finetune`: tunes one candidate, first its stitches and head, then all of it, beside its controls."""

from collections.abc import Mapping
from pathlib import Path

from lib import artifacts, data, resume
from lib.dery import network, tuning
from lib.dery.network import ReassembledNetwork
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.run import Run
from lib.params.training import Training
from stages import SCRATCH, prepare, run


def main(dataset: Path, candidate: Path, out: Path, metrics: Path, curve: Path) -> None:
    """Writes the tuned network to `out`, its accuracy after each protocol to `metrics`, learning curves to `curve`."""
    run_params = read("run", Run)
    protocols = {name: read(f"finetune.{name}", Training, within=Finetune) for name in ("frozen", "full")}
    device = prepare(run_params)
    images = data.load(dataset)
    model = network.load(candidate)
    recipe = model.recipe
    has_rival = (candidate / "zoo").is_dir()  # the best zoo network within the budget
    teacher = network.load(candidate / "zoo") if has_rival else None

    with resume.scratch(SCRATCH / "finetune" / candidate.name) as scratch:

        def tune(model: ReassembledNetwork, how: Mapping[str, Training]) -> tuning.Tuned:
            return tuning.tune(model.to(device), images, how, run_params.seed, scratch, teacher)

        tuned = tune(model, protocols)
        scratch_network = tuning.untrained(recipe, run_params.seed)
        controls = {"scratch": tune(scratch_network, {"scratch": tuning.from_scratch(protocols)})}
        if has_rival:
            controls["zoo"] = tune(network.load(candidate / "zoo"), protocols)
    saved = network.save(out, model.cpu(), model.recipe)
    artifacts.write_json(
        metrics,
        {
            "blocks": " > ".join(recipe.blocks()),
            "params": saved.cost.params,
            "macs": saved.cost.macs,
            "test": {**tuned.test, **{name: control.final_test for name, control in controls.items()}},
            "validation": {**tuned.validation, **{name: c.final_validation for name, c in controls.items()}},
        },
    )
    curves = {"reassembled": tuned, **controls}
    artifacts.write_json(curve, [{"network": name, **row} for name, one in curves.items() for row in one.curve])


if __name__ == "__main__":
    run(main)
