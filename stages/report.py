"""Stage `report`: one self-contained page that shows what the other stages found."""

from pathlib import Path

from lib.base import artifacts
from lib.params.base import read
from lib.params.components import Task
from lib.params.report import Report
from lib.params.zoo import Zoo, ZooModel
from lib.report import findings, page
from stages import run


def main(
    metrics: Path, similarity: Path, partition: Path, assembly: Path, contributions: Path, components: Path, out: Path
) -> None:
    """Writes report.html to `out`."""
    models = read("zoo", Zoo).models
    ranks = read("finetune.ranks", list[int])
    taken_apart = read("contributions.models", list[str])
    tasks = read("components.tasks", dict[str, Task])
    artifacts.keep_only(metrics / "zoo", models)
    artifacts.keep_only(metrics / "activations", models)
    artifacts.keep_only(metrics / "finetune", (f"r{rank}" for rank in ranks))
    artifacts.keep_only(metrics / "contributions", taken_apart)
    artifacts.keep_only(metrics / "components", tasks)
    artifacts.keep_only(contributions, taken_apart)
    artifacts.keep_only(components, tasks)
    with findings.belonging_together():
        found = findings.gather(
            title=read("report", Report).title,
            zoo={name: entry(model) for name, model in models.items()},
            ranks=ranks,
            taken_apart=taken_apart,
            tasks=list(tasks),
            metrics=metrics,
            similarity=similarity,
            partition=partition,
            assembly=assembly,
            contributions=contributions,
            components=components,
        )
        html = page.render(found)
    artifacts.write_text(out / "report.html", html)


def entry(model: ZooModel) -> findings.Entry:
    """What the page says of a zoo entry."""
    architecture = model.timm or model.torchvision or f"{str(model.factory).rpartition(':')[2]} (factory)"
    return findings.Entry(architecture, model.weights, model.classes)


if __name__ == "__main__":
    run(main)
