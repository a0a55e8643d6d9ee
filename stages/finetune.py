"""Stage `finetune`: tunes one candidate, first its stitches and head, then all of it, beside its controls."""

from collections.abc import Mapping
from pathlib import Path

from lib.base import artifacts, processes, resume
from lib.base.memo import Memo
from lib.dery import tuning
from lib.images import data
from lib.network import files
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled
from lib.params.base import read
from lib.params.entries import entries
from lib.params.run import Run
from lib.params.training import BUDGET, Tuning
from lib.zoo import teachers
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run


def main(dataset: Path, candidate: Path, out: Path, metrics: Path, curve: Path) -> None:
    """Writes the tuned network to `out`, its accuracy after each protocol to `metrics`, learning curves to `curve`."""
    run_params = read("run", Run)
    protocols = {name: read(f"finetune.{name}", Tuning) for name in ("frozen", "full")}
    prior = read("finetune.stacking_prior", float) if read("finetune.combine", str) == "auto" else None
    device = prepare(run_params)
    images = data.load(dataset, SCRATCH)
    model = _opened(candidate).to(device)
    has_rival = (candidate / "zoo").is_dir()  # the best zoo network within the budget
    rival = _opened(candidate / "zoo") if has_rival else None
    taught = _teachers(candidate / "teachers", protocols, images.classes)
    with resume.scratch(SCRATCH / "finetune" / candidate.name) as scratch:
        kept = Memo(SCRATCH / "rivals")
        found = tuning.beside_controls(model, rival, images, protocols, run_params.seed, scratch, taught, prior, kept)
        if processes.rank() > 0:
            return
        recipe = files.save(out, model.cpu(), model.recipe)
        made = {"blocks": recipe.words, "params": recipe.cost.params, "macs": recipe.cost.macs}
        artifacts.write_metrics(metrics, {**made, **tuning.figures(found)})
        artifacts.write_metrics(curve, tuning.curves(found))


def _teachers(folder: Path, protocols: Mapping[str, Tuning], classes: tuple[str, ...]) -> dict[str, teachers.Networks]:
    """By protocol, the networks that assembly left for it; the best zoo network is no matter of these."""
    opened = {one.name: files.load_as(Card, one, entries()) for one in sorted(folder.glob("*/"))}
    known = {name: card.classes for name, (_, card) in opened.items()}
    named = {
        protocol: teachers.named(f"finetune.{protocol}.teacher", settings.teacher, known, classes)
        for protocol, settings in protocols.items()
        if settings.distillation > 0 and settings.teacher != BUDGET
    }
    return {protocol: [opened[name] for name in names] for protocol, names in named.items()}


def _opened(folder: Path) -> ReassembledNetwork:
    network, _ = files.load_as(Reassembled, folder, entries())
    assert isinstance(network, ReassembledNetwork)
    return network


if __name__ == "__main__":
    run(main, several=True)
