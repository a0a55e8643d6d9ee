"""What each stage needs, from what it works on: a formula a stage, which says what it counts.

Orders are those of the code that runs; factors were fitted to runs of the default job and of pico ones. They are right
to a factor of two or three, which is enough to tell minutes from days.
"""

from collections.abc import Callable

from commands.plan.costs import assembly, dery, mda, shelf
from commands.plan.facts import Facts
from commands.plan.need import Need

COSTS: dict[str, Callable[[Facts, str], Need]] = {
    "code": shelf.code,
    "dataset": shelf.dataset,
    "zoo": shelf.zoo,
    "activations": dery.activations,
    "similarity": dery.similarity,
    "partition": dery.partition,
    "edges": dery.edges,
    "bricks": dery.bricks,
    "assembly": assembly.assembly,
    "finetune": assembly.finetune,
    "contributions": mda.contributions,
    "components": mda.components,
    "lego": mda.lego,
    "report": shelf.report,
}
