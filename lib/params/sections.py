"""All sections of `params.yaml`, in their order."""

from dataclasses import dataclass

from .activations import Activations
from .assembly import Assembly
from .bricks import Bricks
from .components import Components
from .contributions import Contributions
from .dataset import Dataset
from .edges import Edges
from .finetune import Finetune
from .lego import Lego
from .partition import Partition
from .report import Report
from .run import Run
from .section import Section
from .similarity import Similarity
from .zoo import Zoo

SECTIONS: dict[str, type[Section]] = {
    "run": Run,
    "dataset": Dataset,
    "zoo": Zoo,
    "activations": Activations,
    "similarity": Similarity,
    "partition": Partition,
    "edges": Edges,
    "bricks": Bricks,
    "assembly": Assembly,
    "finetune": Finetune,
    "contributions": Contributions,
    "components": Components,
    "lego": Lego,
    "report": Report,
}


@dataclass(frozen=True)
class Sections:
    """The sections that are there and right; None for the others."""

    run: Run | None = None
    dataset: Dataset | None = None
    zoo: Zoo | None = None
    activations: Activations | None = None
    similarity: Similarity | None = None
    partition: Partition | None = None
    edges: Edges | None = None
    bricks: Bricks | None = None
    assembly: Assembly | None = None
    finetune: Finetune | None = None
    contributions: Contributions | None = None
    components: Components | None = None
    lego: Lego | None = None
    report: Report | None = None
