"""How long nodes take: a file that one command measures (lib/chain/timing.py) and stages read."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ..base import artifacts
from ..base.errors import BrickyardError
from .chain import Chain

COMMAND = "./run python -m commands.latency"
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Unmeasured(BrickyardError):
    """Something has not been measured, or is no longer what was measured."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one batch. nodes[i]: of node i+1 of a chain; head: pooling and classifier."""

    nodes: tuple[float, ...]
    head: float

    def block(self, start: int, stop: int) -> float:
        """Milliseconds of the block of nodes start+1..stop, to a good approximation their sum."""
        return sum(self.nodes[start:stop])


@dataclass(frozen=True)
class StitchLatency:
    """Milliseconds of a stitch for one batch: base + per_gmac times its MACs in 10^9."""

    base: Milliseconds
    per_gmac: Milliseconds

    def of(self, macs: int) -> float:
        """Milliseconds of a stitch with so many MACs for one image."""
        return self.base + self.per_gmac * macs / 1e9


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one network's nodes and of its head, and `made_of`, the `fingerprint` of its chain."""

    made_of: str
    nodes: dict[str, Milliseconds]
    head: Milliseconds

    def of(self, chain: Chain) -> Latency:
        """Of the nodes of `chain`, which it is made of."""
        return Latency(tuple(self.nodes[node.name] for node in chain.nodes), self.head)


@dataclass(frozen=True)
class Latencies:
    """Measured milliseconds, as data/latency.json holds them.

    networks: by name of the zoo entry.
    stitch: of any stitch.
    made: on what machine and how, for the reader.
    narrow: of networks with narrow blocks, by name and width.
    """

    networks: dict[str, Measured]
    stitch: StitchLatency
    made: dict[str, Any]
    narrow: dict[str, dict[float, Measured]] = field(default_factory=dict)

    def of(self, chain: Chain) -> Latency:
        """Of the nodes of `chain`. Raises Unmeasured where they have not been measured, or were others then."""
        if (found := self.networks.get(chain.name)) is None:
            raise Unmeasured(f"latency: {chain.name} has not been measured: {COMMAND}")
        if found.made_of != fingerprint(chain):
            raise Unmeasured(
                f"latency: {chain.name} has other nodes, sizes or costs than when it was measured: {COMMAND}"
            )
        return found.of(chain)

    def of_narrow(self, chain: Chain, width: float) -> Latency | None:
        """The same of a network with narrow blocks, None where it has not been measured as it is."""
        found = self.narrow.get(chain.name, {}).get(width)
        return found.of(chain) if found is not None and found.made_of == fingerprint(chain) else None


def fingerprint(chain: Chain) -> str:
    """SHA-256 over what a network's latency depends on: its nodes with their layouts and costs, its input, its head.

    Not its weights: a network that is trained anew takes as long.
    """
    return hashlib.sha256(json.dumps(chain.to_dict(), sort_keys=True).encode()).hexdigest()


def save(path: Path, latencies: Latencies) -> None:
    """Writes JSON, milliseconds with four significant digits."""
    networks = {name: _told(one) for name, one in sorted(latencies.networks.items())}
    narrow = {
        name: {str(width): _told(one) for width, one in sorted(own.items())}
        for name, own in sorted(latencies.narrow.items())
    }
    stitch = {"base": _digits(latencies.stitch.base), "per_gmac": _digits(latencies.stitch.per_gmac)}
    told = {"unit": "ms a batch", **latencies.made, "stitch": stitch, "networks": networks}
    artifacts.write_json(path, told | ({"narrow": narrow} if narrow else {}))


def load(path: Path) -> Latencies:
    """What `save` wrote. Raises Unmeasured when nothing has been measured yet, BrickyardError for a damaged file."""
    if not path.exists():
        raise Unmeasured(f"{path} not found: {COMMAND}")
    try:
        stored = artifacts.read_json(path)
    except BrickyardError:
        raise BrickyardError(f"{path} is damaged; measure anew: {COMMAND}") from None
    if not stored.get("networks"):
        raise Unmeasured(f"{path}: nothing has been measured yet: {COMMAND}")
    try:
        networks = TypeAdapter(dict[str, Measured]).validate_python(stored.pop("networks"))
        narrow = TypeAdapter(dict[str, dict[float, Measured]]).validate_python(stored.pop("narrow", {}))
        stitch = TypeAdapter(StitchLatency).validate_python(stored.pop("stitch", None))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BrickyardError(f"{path}: {where}: {error.errors()[0]['msg']}; measure anew: {COMMAND}") from None
    return Latencies(networks, stitch, stored, narrow)


def _told(one: Measured) -> dict[str, Any]:
    nodes = {name: _digits(ms) for name, ms in one.nodes.items()}
    return {"made_of": one.made_of, "nodes": nodes, "head": _digits(one.head)}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
