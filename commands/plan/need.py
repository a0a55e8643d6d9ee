"""What one stage needs, and the pieces of which such needs are made: passes of networks, trainings, regressions."""

from collections.abc import Iterable
from dataclasses import dataclass

from commands.plan.machine import AFRESH, Work
from commands.plan.networks import Network, Part

BACKWARD = 2.2  # forward passes that one back through a network is worth
STEPPED = 40  # bytes that a step of AdamW moves for each parameter
LEARNING = 16  # bytes in memory for each parameter that learns: itself, its gradient, two moments


@dataclass(frozen=True)
class Need:
    """What a stage needs.

    about: what it works on, in words.
    work: what it computes.
    memory: bytes at its peak, beside what every stage holds.
    kept: bytes of its artifacts.
    scratch: bytes of temporary files.
    """

    about: str
    work: Work
    memory: float = 0.0
    kept: float = 0.0
    scratch: float = 0.0


def forward(parts: Iterable[Part], images: float, batch: int = 64) -> Work:
    """One pass of images through parts of a network: MACs and bytes an image, operations a batch."""
    own = list(parts)
    operations = [each for part in own for each in part.operations]
    afresh = sum(moved for made, moved in operations if made * min(batch, images) >= AFRESH)
    moved = sum(moved for _, moved in operations) - afresh
    return Work(
        macs=images * sum(part.macs for part in own),
        moved=images * moved,
        afresh=images * afresh,
        calls=len(operations) * -(-images // batch),
    )


def training(network: Network, images: float, epochs: int, batch: int) -> Work:
    """Passes forward and back, and a step of AdamW a batch."""
    steps = epochs * -(-images // batch)
    passes = (1 + BACKWARD) * forward(network.parts, epochs * images, batch)
    return passes + Work(moved=STEPPED * network.params * steps)


def learning(network: Network, batch: int) -> int:
    """Bytes that a training holds: weights with their moments, and all that operations make of a batch."""
    return LEARNING * network.params + batch * sum(part.made for part in network.parts)


def running(network: Network, batch: int) -> int:
    """Bytes that a forward pass holds: weights, and what is alive at once of a batch."""
    return 4 * network.params + batch * max(part.peak for part in network.parts)


def opened(network: Network) -> Work:
    """A network read from disk, and followed on shapes to find its nodes."""
    return Work(written=4 * network.params, traced=sum(part.traced for part in network.parts))


def regression(rows: float, inputs: float, outputs: float, again: int = 0) -> Work:
    """Normal equations of `rows` of X [rows, inputs] and Y [rows, outputs], and their solution in float64; again: how
    often other targets follow for the same X, each with what the last solution makes of it.
    """
    products = rows * inputs * (inputs + outputs) + again * 2 * rows * inputs * outputs
    solved = 2 * (inputs**3 / 3 + (1 + again) * inputs**2 * outputs)
    return Work(products=products + solved, moved=rows * (24 * inputs + 12 * outputs))


def size(parts: Iterable[Part]) -> int:
    """Parameters of parts of a network."""
    return sum(part.params for part in parts)
