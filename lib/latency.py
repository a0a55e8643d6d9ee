"""How long nodes take: a file that one command measures (lib/timing.py) and stages read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import artifacts
from lib.chain import Chain
from lib.errors import BrickyardError

COMMAND = "./run python -m stages.latency"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one batch. nodes[i]: of node i+1 of a chain; head: pooling and classifier."""

    nodes: tuple[float, ...]
    head: float

    def block(self, start: int, stop: int) -> float:
        """Of nodes start+1..stop one after another, to a good approximation."""
        return sum(self.nodes[start:stop])


@dataclass(frozen=True)
class StitchLatency:
    """Milliseconds of a stitch for one batch: base + per_gmac times its MACs in 10^9."""

    base: float
    per_gmac: float

    def of(self, macs: int) -> float:
        """Of a stitch of so many MACs for one image."""
        return self.base + self.per_gmac * macs / 1e9


@dataclass(frozen=True)
class Latencies:
    """networks: by name of the zoo entry; stitch: of any stitch; made: on what machine and how, for the reader."""

    networks: dict[str, tuple[dict[str, float], float]]
    stitch: StitchLatency
    made: dict[str, Any]

    def of(self, chain: Chain) -> Latency:
        """Of the nodes of `chain`. Raises BrickyardError where they have not been measured."""
        nodes, head = self.networks.get(chain.name, ({}, 0.0))
        missing = [node.name for node in chain.nodes if node.name not in nodes]
        if missing:
            raise BrickyardError(f"latency: node {missing[0]} of {chain.name} has not been measured: {COMMAND}")
        return Latency(tuple(nodes[node.name] for node in chain.nodes), head)


def save(path: Path, latencies: Latencies) -> None:
    """Writes JSON, milliseconds with four significant digits."""
    networks = {
        name: {"nodes": {node: _digits(value) for node, value in nodes.items()}, "head": _digits(head)}
        for name, (nodes, head) in sorted(latencies.networks.items())
    }
    stitch = {"base": _digits(latencies.stitch.base), "per_gmac": _digits(latencies.stitch.per_gmac)}
    artifacts.write_json(path, {"unit": "ms a batch", **latencies.made, "stitch": stitch, "networks": networks})


def load(path: Path) -> Latencies:
    """What `save` wrote. Raises BrickyardError when nothing has been measured yet."""
    stored = artifacts.read_json(path)
    if not stored.get("networks"):
        raise BrickyardError(f"{path}: nothing has been measured yet: {COMMAND}")
    networks = {name: (dict(table["nodes"]), table["head"]) for name, table in stored.pop("networks").items()}
    return Latencies(networks, StitchLatency(**stored.pop("stitch")), stored)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
