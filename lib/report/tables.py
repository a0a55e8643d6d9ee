"""The tables of the page and its headline: plain values picked from the findings; formats for the template."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

from ..network.blocks import Block
from .findings import Findings, Json

PROTOCOLS = ("untrained", "frozen", "full", "stacked")  # in the order in which a candidate goes through them
MISSING = "–"
HEADS = {"lda": "LDA", "ridge": "ridge"}
SHOWN = 16  # rows of the pool before the rest is folded away


def percent(value: float | None, digits: int = 1) -> str:
    """A value that is in percent already; a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}\u202f%"


def count(value: float | None) -> str:
    """A whole number with thousands separators; a dash for None."""
    return MISSING if value is None else f"{value:,.0f}"


def amount(value: float | None) -> str:
    """Three significant digits with k, M or G; a dash for None."""
    if value is None:
        return MISSING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = 2 if value < 9.995 * size else 1 if value < 99.95 * size else 0
            return f"{value / size:.{digits}f}\u202f{unit}"
    return f"{value:.0f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with a minus sign that is as wide as a digit."""
    return f"{value:.{digits}f}".replace("-", "\u2212")


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Names in a row, the first of them only where there are many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 2])} … {names[-1]} ({len(names):,} classes)"


def tuned(findings: Findings) -> list[Json]:
    """One row a tuned candidate; `last`: the protocol it ended with, `validation` and `test`: its accuracy then."""
    rows = []
    for rank in findings.ranks:
        scores = findings.metrics["finetune"][f"r{rank}"]
        last = [protocol for protocol in PROTOCOLS if protocol in scores["test"]][-1]
        rows.append(
            {
                "rank": rank,
                "blocks": [f"{'+ ' * later}{run.network}, {_span(run)}" for run, later in runs(findings, rank)],
                "params": scores["params"],
                "macs": scores["macs"],
                "costs": {**findings.single("assembly")["untrained"][f"r{rank}"], **_counted(scores)},
                "scores": {key: scores["test"].get(key) for key in (*PROTOCOLS, "scratch", "zoo")},
                "last": last,
                "validation": scores["validation"][last],
                "test": scores["test"][last],
            }
        )
    return rows


def _counted(scores: Json) -> Json:
    """What is counted anew when a candidate is tuned."""
    return {kind: scores[kind] for kind in ("params", "macs")}


def headline(findings: Findings) -> Json:
    """The tuned candidate that is best on validation images, the assembled classifier, and the controls of both."""
    controls = findings.single("assembly")["controls"]
    best = max(tuned(findings), key=lambda row: (row["validation"], -row["rank"]))
    return {
        "best": best,
        "in_budget": controls["zoo"]["best_within_budget"],
        "ensemble": controls["ensemble"],
        "random": controls["random_assembly"],
        "searched": controls["random_search"],
        "exchanged": controls.get("paper_search", {"candidates": 0}),
        "lego": findings.single("lego"),
    }


def zoo(findings: Findings) -> list[Json]:
    """One row a zoo network: on its own classes, if there are images of these, and as it would be used for the task."""
    used = findings.single("assembly")["controls"]["zoo"]["models"]
    found = {name: findings.metrics["zoo"][name] for name in findings.zoo}
    unknown = {"validation": None, "test": None}
    return [
        {"name": name, "entry": entry, "own": {**own, "accuracy": own["accuracy"] or unknown}, "used": used[name]}
        for (name, own), entry in zip(found.items(), findings.zoo.values(), strict=True)
    ]


def pool(findings: Findings) -> tuple[list[Json], list[Json]]:
    """The re-ranked candidates: those shown at once and the rest; `rank` where a candidate was tuned."""
    rows = [
        {**row, "place": place, "tuned": place in findings.ranks}
        for place, row in enumerate(findings.assembly["candidates"], start=1)
    ]
    return rows[:SHOWN], rows[SHOWN:]


def agreement(findings: Findings) -> str:
    """Kendall's tau of each proxy to measured accuracy over the pool, in words."""
    taus = findings.single("assembly")["kendall_tau_to_accuracy"]
    return ", ".join(f"{name} {MISSING if tau is None else signed(tau, 2)}" for name, tau in taus.items())


def limits(findings: Findings) -> list[tuple[str, str, float | None]]:
    """(kind, what it is called, limit) of each cost that the meters show; memory and latency where they are limited."""
    budget = findings.assembly["budget"]
    shown = [("params", "parameters"), ("macs", "MACs"), ("memory", "bytes of activations"), ("latency", "ms a batch")]
    return [(k, what, budget[k]) for k, what in shown if k in ("params", "macs") or budget[k] is not None]


def bars(findings: Findings) -> list[Json]:
    """One row a network: its blocks {set, block, nodes, size, span (in words), similarity_to_anchor, anchor}."""
    found = findings.partition
    rows = []
    for name, limit in found.limits.items():
        blocks = [
            {
                "set": k,
                "block": member.block,
                "nodes": member.nodes,
                "size": member.size,
                "span": _span(member.block),
                "similarity_to_anchor": member.similarity_to_anchor,
                "anchor": found.sets[k].anchor == name,
            }
            for k, member in enumerate(found.members(name))
        ]
        rows.append({"name": name, "blocks": blocks, "limit": limit})
    return rows


def runs(findings: Findings, rank: int) -> list[tuple[Block, bool]]:
    """The runs of nodes of a reassembled network, from the image to its heads, tail by tail, each once; whether it
    belongs to a tail behind the first alone.
    """
    recipe, met, found = findings.candidates[rank], set[str](), []
    for number, tail in enumerate(recipe["tails"]):
        own = [part for part in _way(recipe, tail) if part["kind"] == "block" and part["name"] not in met]
        found += [(_run(part), number > 0) for part in own]
        met |= {part["name"] for part in own}
    return found


def _way(recipe: Json, tail: Json) -> list[Json]:
    """The parts that lead from the images to a tail's head."""
    parts = {part["name"]: part for part in recipe["parts"]}
    way = [parts[tail["after"]]]
    while way[0]["after"] is not None:
        way.insert(0, parts[way[0]["after"]])
    return way


def _run(part: Json) -> Block:
    return Block(part["source"], part["start"], part["stop"])


def drawn(findings: Findings, rank: int) -> list[Json]:
    """The tails of a reassembled network: {pieces, end: the head in words, weight: of its logits, None for one tail}.

    pieces: from the image to the head, blocks {source, set, span, nodes} and stitches {source, target: in words};
    shared: whether a tail before this one has the same. A run of nodes that spans several sets is one block a set;
    `joined` to the one before, `joins` the one after.
    """
    recipe = findings.candidates[rank]
    rows, met = [], set[str]()
    for tail in recipe["tails"]:
        way = _way(recipe, tail)
        pieces = [{**piece, "shared": part["name"] in met} for part in way for piece in _pieces(findings, part)]
        met |= {part["name"] for part in way}
        several = len(recipe["tails"]) > 1
        end = _head(tail["head"]) + (", fitted to labels" if tail.get("stacked") else "")
        rows.append({"pieces": pieces, "end": end, "weight": tail["weight"] if several else None})
    return rows


def _pieces(findings: Findings, part: Json) -> list[Json]:
    if part["kind"] == "stitch":
        return [{"kind": "stitch", "source": _layout(part["source"]), "target": _layout(part["target"])}]
    run = _run(part)
    inside = [block for row in bars(findings) for block in row["blocks"] if run.covers(block["block"])]
    return [
        {"kind": "block", "source": run.network, "joined": i > 1, "joins": i < len(inside), **block}
        for i, block in enumerate(inside, start=1)
    ]


def _head(kept: Any) -> str:
    """A head in words."""
    return f"head of {kept}" if isinstance(kept, str) else f"new linear head ({HEADS[kept['method']]})"


def components(findings: Findings) -> list[Json]:
    """One row a task: source, classes, size, and what is measured: accuracy, or AUROC for a single class."""
    rows = []
    for task, scores in findings.metrics["components"].items():
        recipe = findings.components[task]
        if "accuracy" in scores:
            measured = {key: percent(value) for key, value in scores["accuracy"].items()}
        else:
            measured = {key: _auroc(value) for key, value in scores["auroc"].items()}
        rows.append(
            {
                "task": task,
                "source": recipe["source"]["name"],
                "classes": shortened(recipe["classes"]),
                "scores": measured,
                **{key: scores[key] for key in ("params", "macs", "share")},
            }
        )
    return rows


def standard_error(accuracy: float, images: int) -> float | None:
    """The binomial standard error of an accuracy in percent; None where it says nothing (0 or 100 %)."""
    return sqrt(accuracy * (100 - accuracy) / images) if 0 < accuracy < 100 else None


def _auroc(value: float | None) -> str:
    return MISSING if value is None else f"AUROC {value:.3f}"


def _span(block: Block) -> str:
    """Its nodes in words, the first one being 1."""
    return f"node {block.stop}" if block.stop == block.start + 1 else f"nodes {block.start + 1}–{block.stop}"


def _layout(layout: dict[str, Any]) -> str:
    """E.g. 64 channels, 4×4; pooled layouts have no grid."""
    if layout["kind"] == "pooled":
        return f"{layout['channels']}"
    return f"{layout['channels']} × {layout['height']}×{layout['width']}"
