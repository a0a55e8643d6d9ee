"""All sections of `params.yaml`, in their order."""

from dataclasses import dataclass

from lib.params.activations import Activations
from lib.params.assembly import Assembly
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.dataset import Dataset
from lib.params.finetune import Finetune
from lib.params.lego import Lego
from lib.params.partition import Partition
from lib.params.report import Report
from lib.params.run import Run
from lib.params.section import Section
from lib.params.similarity import Similarity
from lib.params.zoo import Zoo

SECTIONS: dict[str, type[Section]] = {
    "run": Run,
    "dataset": Dataset,
    "zoo": Zoo,
    "activations": Activations,
    "similarity": Similarity,
    "partition": Partition,
    "assembly": Assembly,
    "finetune": Finetune,
    "contributions": Contributions,
    "components": Components,
    "lego": Lego,
    "report": Report,
}


@dataclass(frozen=True)
class Sections:
    """Those that are there and right; None for the others."""

    run: Run | None = None
    dataset: Dataset | None = None
    zoo: Zoo | None = None
    activations: Activations | None = None
    similarity: Similarity | None = None
    partition: Partition | None = None
    assembly: Assembly | None = None
    finetune: Finetune | None = None
    contributions: Contributions | None = None
    components: Components | None = None
    lego: Lego | None = None
    report: Report | None = None
