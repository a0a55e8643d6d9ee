"""What a run is about: params, images, networks, and where these are cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from commands import SCRATCH
from commands.plan.images import Images
from commands.plan.networks import Network, networks
from lib.base import environment
from lib.base.errors import BrickyardError
from lib.base.progress import track
from lib.dery.partition.sets import Partition as Found
from lib.params.activations import Activations
from lib.params.assembly import Assembly
from lib.params.bricks import Bricks
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.dataset import Dataset
from lib.params.edges import Edges
from lib.params.finetune import Finetune
from lib.params.lego import Lego
from lib.params.partition import Partition
from lib.params.report import Report
from lib.params.run import Run
from lib.params.sections import Sections
from lib.params.similarity import Similarity
from lib.params.zoo import Zoo, ZooModel

PARTITION = Path("artifacts/partition/partition.json")
NETWORKS = SCRATCH / "plan" / "networks.json"


@dataclass(frozen=True)
class Facts:
    """The sections of params.yaml, and what they are about.

    images: how many there are.
    networks: of the zoo, by name.
    cuts: of each, K+1 positions between its nodes.
    room: bytes that BRICKYARD_MEMORY grants.
    """

    images: Images
    networks: Mapping[str, Network]
    cuts: Mapping[str, tuple[int, ...]]
    room: int
    run: Run
    dataset: Dataset
    zoo: Zoo
    activations: Activations
    similarity: Similarity
    partition: Partition
    edges: Edges
    bricks: Bricks
    assembly: Assembly
    finetune: Finetune
    contributions: Contributions
    components: Components
    lego: Lego
    report: Report

    @property
    def probe(self) -> int:
        """Images on which activations are compared, n."""
        return self.dataset.probe_images

    @property
    def fit(self) -> int:
        """Images to which stitches, and layers behind them, are fitted."""
        return min(self.probe, self.edges.images or self.probe)

    @property
    def judged(self) -> int:
        """Images on which the replace-one KL is measured."""
        return min(self.fit, self.edges.kl_images or self.fit)

    def images_of(self, network: str, part: str) -> int:
        """How many images of a part have classes that a network knows."""
        return self.images.of(part, self.zoo.models[network].classes)

    def kept(self, images: int, size: int) -> int:
        """Bytes in which so many images wait for the next pass; 0 where half of the room is too small for them."""
        needed = 12 * size**2 * images
        return needed if needed <= self.room / 2 else 0

    def decoded(self, images: int, size: int, passes: int) -> int:
        """How many images are read in so many passes over them."""
        return images * (1 if self.kept(images, size) else passes)


def gather(given: Sections, images: Images) -> Facts:
    """All that is known before anything has run; where a partition is there of the same networks, its cuts, else even
    ones. Raises BrickyardError naming a network that cannot be built or cut.
    """
    assert given.zoo is not None
    assert given.partition is not None

    def classes(_: str, entry: ZooModel) -> int | None:
        return None if entry.classes == "own" else images.known(entry.classes)

    found = networks(given.zoo.models, classes, NETWORKS, track)
    cuts = _cuts(found, given.partition.num_blocks)
    return Facts(images, found, cuts, environment.memory(), **vars(given))


def _cuts(found: Mapping[str, Network], sets: int) -> dict[str, tuple[int, ...]]:
    depths = {name: len(network.nodes) for name, network in found.items()}
    try:
        cuts = Found.read(PARTITION).cuts
        if {name: own[-1] for name, own in cuts.items()} == depths and all(
            len(own) == sets + 1 for own in cuts.values()
        ):
            return cuts
    except BrickyardError:  # none yet, or damaged
        pass
    return {name: tuple(round(k * depth / sets) for k in range(sets + 1)) for name, depth in depths.items()}
