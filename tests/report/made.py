"""Findings of any size without a run: what the stages would have written, with numbers that can be told apart."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from lib.dery.partition.sets import Partition
from lib.network.blocks import Block, Pick
from lib.report.findings import Entry, Findings, Json
from tests.dery.partition.partitions import partitioned

NODES, LAYERS = 6, ("0.0", "0.3", "0.7")


def findings(networks: int = 3, classes: int = 4, blocks: int = 3, ranks: int = 2, pool: int = 4) -> Findings:
    """`networks` of NODES nodes in `blocks` blocks; the first two are taken apart, one component each."""
    names = [f"net_{i:02d}" for i in range(networks)]
    labels = [f"class {c}" for c in range(classes)]
    budget = {"params": 250_000.0, "macs": 20e6, "memory": 300_000.0, "latency": None}
    cost = {"params": 200_001, "macs": 15_432_100, "memory": 234_567}
    used = {
        name: {
            "params": 123_456 + 7_891 * i,
            "macs": 9_876_543 + 1_234_567 * i,
            "head": "closed form" if i < 2 else "own",
            "within_budget": i < 9,
            "validation": 91.11 + i % 7,
            "test": 90.17 + i % 8 + i / 100,
        }
        for i, name in enumerate(names)
    }
    zoo = {
        name: {"params": u["params"] - 5, "macs": u["macs"], "accuracy": {"validation": 99.04, "test": 98.76}}
        for name, u in used.items()
    }
    tuned = {f"r{r}": _tuned(r, names) for r in range(1, ranks + 1)}
    metrics: dict[str, dict[str, Json]] = {
        "dataset": {
            "dataset": {"images": {"train": 700, "validation": 100, "test": 400, "probe": 64}, "classes": classes}
        },
        "zoo": zoo,
        "activations": {name: {"nodes": NODES, "images": 64} for name in names},
        "similarity": {
            "similarity": {"index": "Linear CKA", "nodes": NODES * networks, "between_networks_mean": 0.4321}
        },
        "partition": {"partition": {}},
        "assembly": {
            "assembly": {
                "untrained": {f"r{r}": {**cost, "test": 80.0} for r in range(1, ranks + 1)},
                "kendall_tau_to_accuracy": {"naswot": 0.123, "synflow": None, "score": -0.456},
                "controls": {
                    "random_assembly": {"count": 8, "mean": 54.32, "max": 87.65},
                    "random_search": {"candidates": 16, **cost, "test": 65.43},
                    "paper_search": {"candidates": 9, **cost, "test": 64.32},
                    "zoo": {"best_within_budget": {"model": names[0], **used[names[0]]}, "models": used},
                    "ensemble": {"models": names[:2], "stacked": True, **cost, "test": 83.21},
                },
            }
        },
        "finetune": tuned,
        "contributions": {name: {"kept": {}, "overall": 0.4567} for name in names[:2]},
        "components": {
            "task_one": {"params": 98_765, "macs": 8_765_432, "share": 0.6543}
            | {"accuracy": {"source_all": 93.21, "source_restricted": 95.43, "component": 94.32}},
            "single": {"params": 45_678, "macs": 7_654_321, "share": 0.3456}
            | {"auroc": {"source_all": 0.9876, "source_restricted": 0.9765, "component": 0.0}},
        },
        "lego": {
            "lego": {
                "params": 345_678,
                "macs": 34_567_890,
                "parts_params": 144_443,
                "components": ["task_one", "single"],
                "form": "parallel",
                "scaling": "winning_score",
                "accuracy": {
                    "unscaled": 71.23,
                    "scaled": 83.45,
                    "sources": 88.12,
                    "sources_scaled": 89.34,
                    "mean_component": 92.56,
                    "mean_source_restricted": 94.67,
                },
            }
        },
    }
    nodes = np.linspace(0, 1, NODES * networks)
    return Findings(
        title="Brickyard",
        zoo={name: Entry(f"timm_arch_{i}", "train", "all" if i else "0-1") for i, name in enumerate(names)},
        ranks=list(range(1, ranks + 1)),
        metrics=metrics,
        curves={rank: _curve() for rank in range(1, ranks + 1)},
        similarity=(1 - np.abs(nodes[:, None] - nodes)).tolist(),
        rows=[name for name in names for _ in range(NODES)],
        partition=partition(names, blocks),
        assembly={
            **{"score": "stitch_r2", "block_score": "none", "rank": "accuracy", "rank_on": "validation"},
            "treatment": "auto",
            "status": "optimal",
            "bound": -0.1234,
            "budget": budget,
            "candidates": [
                {"pick": _pick([names[(i + k) % networks] for k in range(blocks)]), "score": -1.5 - i / 8}
                | {"treatments": [("layers", "statistics", "layers_and_head")[i % 3]], "weights": [1.0]}
                | {"params": 200_001 + i, "macs": 15_000_000 + 10_000 * i, "rank_accuracy": 89.9 - i}
                for i in range(pool)
            ],
            "pareto": {
                kind: [_point(scale * (i + 1), i - 3.0, scale * (i + 1) <= (budget[kind] or 0)) for i in range(4)]
                for kind, scale in (("params", 80_000), ("macs", 6_000_000), ("memory", 90_000))
            },
        },
        candidates={rank: _recipe(names, blocks) for rank in range(1, ranks + 1)},
        kept={
            name: [
                {"class": label, "layer": layer, "channels": 20, "kept": 4 + (c + at) % 13}
                for c, label in enumerate(labels)
                for at, layer in enumerate(LAYERS)
            ]
            for name in names[:2]
        },
        masks={
            name: {
                layer: [[(c + at + i) % 5 < 2 for i in range(20)] for c in range(len(labels))]
                for at, layer in enumerate(LAYERS)
            }
            for name in names[:2]
        },
        components={
            "task_one": _component(names[0], labels, 15),
            "single": _component(names[1], labels[:1], 5),
        },
    )


def _point(cost: float, score: float, within: bool) -> Json:
    return {"cost": cost, "score": score, "within_budget": within}


def with_metrics(findings: Findings, stage: str, item: str, value: Any) -> Findings:
    """The same with another content of one metrics file."""
    return replace(findings, metrics={**findings.metrics, stage: {**findings.metrics[stage], item: value}})


def _tuned(rank: int, names: list[str]) -> Json:
    scores = {"untrained": 80.13 + rank, "frozen": 85.24 + rank, "full": 95.68 - rank, "scratch": 92.46 - rank}
    if rank == 2:
        scores["stacked"] = 95.79 - rank
    scores["zoo"] = 93.57 - rank
    blocks = f"{names[0]} 0:4 > {names[1]} 4:6"
    validation = {**scores, "full": 95 - rank}
    return {"blocks": blocks, "params": 200_001, "macs": 15_432_100, "test": scores, "validation": validation}


def _curve() -> list[Json]:
    protocols = {"reassembled": {"frozen": 2, "full": 3}, "scratch": {"scratch": 5}, "zoo": {"frozen": 2, "full": 3}}
    rows = []
    for n, (network, lengths) in enumerate(protocols.items()):
        order = ["untrained", *(protocol for protocol, epochs in lengths.items() for _ in range(epochs))]
        rows += [
            {"network": network, "protocol": protocol, "epoch": epoch}
            | {"loss": 2.0 - epoch / 4 + n / 8 if epoch else None, "validation_accuracy": 70.0 + 4 * epoch + n}
            for epoch, protocol in enumerate(order)
        ]
    return rows


def _cuts(blocks: int) -> tuple[int, ...]:
    return tuple(round(k * NODES / blocks) for k in range(blocks + 1))


def _pick(networks: list[str]) -> Json:
    cuts = _cuts(len(networks))
    pick = Pick(tuple(Block(name, i, j) for name, (i, j) in zip(networks, pairwise(cuts), strict=True)))
    return json.loads(json.dumps(pick.to_dict()))


def partition(names: list[str], blocks: int) -> Partition:
    """All networks cut alike, one after another anchoring the sets."""
    similarities = [1.25 + k / 100 for k in range(blocks)]
    found = partitioned(dict.fromkeys(names, _cuts(blocks)), dict.fromkeys(names, similarities))
    sets = [replace(one, anchor=names[k % len(names)]) for k, one in enumerate(found.sets)]
    return replace(found, limits=dict.fromkeys(names, 4), sets=tuple(sets))


def _recipe(names: list[str], blocks: int) -> Json:
    stop = round((blocks - 1) * NODES / blocks)
    side: Json = {"kind": "nchw", "channels": 64, "height": 4, "width": 4, "prefix": 0}
    pooled = {**side, "kind": "pooled", "channels": 48}
    return {
        "parts": [
            {"name": "first", "after": None, "kind": "block", "source": names[0], "start": 0, "stop": stop},
            {"name": "stitch_1", "after": "first", "kind": "stitch", "source": side, "target": pooled},
            {"name": "last", "after": "stitch_1", "kind": "block", "source": names[1], "start": stop, "stop": NODES},
            {"name": "own", "after": "first", "kind": "block", "source": names[0], "start": stop, "stop": NODES},
        ],
        "tails": [
            {"after": "own", "head": names[0], "weight": 0.5},
            {"after": "last", "head": {"layout": {"kind": "pooled"}, "method": "lda"}, "weight": 0.5},
        ],
    }


def _component(source: str, classes: list[str], kept: int) -> Json:
    return {"source": {"name": source}, "classes": classes, "kept": {layer: list(range(kept)) for layer in LAYERS}}
