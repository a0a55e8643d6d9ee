"""How many networks Brickyard can cut: every architecture of timm, every classifier of torchvision.

python -m benchmarks.coverage [--sample N --seed S]

Cut: built without weights, taken apart into nodes whose parameters and MACs add up to the network's. Exact: with random
weights, the network against its nodes at every cut, bit-equal in eval and train mode (`Chain.verify`), and against the
composition of its parts at three random cuts, equal gradients in train mode without dropout. Results are kept in
.scratch/coverage.json and not computed again.
"""

import argparse
import copy
import gc
import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lib.base.code import ROOT, digest
from lib.base.errors import BrickyardError
from lib.base.progress import track
from lib.chain.chain import Chain
from lib.trace import cost

STORE = Path(".scratch/coverage.json")
Result = dict[str, Any]


def main() -> None:
    """Prints a table by family and, as the last line, the counts as JSON."""
    import timm
    import torchvision

    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=str(__doc__).splitlines()[0])
    parser.add_argument("--sample", type=int, help="modules, architectures and torchvision models to draw")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)

    modules = {module: timm.list_models(module=module) for module in timm.list_modules()}
    modules = {module: names for module, names in modules.items() if names}
    architectures = sorted(name for names in modules.values() for name in names)
    classifiers = sorted(torchvision.models.list_models(module=torchvision.models))
    exact_of = sorted(modules)
    if arguments.sample:
        draw = random.Random(arguments.seed)
        exact_of, architectures, classifiers = (
            sorted(draw.sample(names, min(arguments.sample, len(names))))
            for names in (exact_of, architectures, classifiers)
        )
    store = Store()
    cuts = {name: store.get(f"cut {name}", lambda n=name: cut(n)) for name in track(architectures, "cut")}
    smallest = {module: _smallest(modules[module], store) for module in track(exact_of, "smallest")}
    exact = {
        m: store.get(f"exact {smallest[m]}", lambda n=smallest[m]: exact_timm(n)) for m in track(exact_of, "exact")
    }
    vision = {n: store.get(f"vision {n}", lambda n=n: exact_torchvision(n)) for n in track(classifiers, "torchvision")}

    family = {name: module for module, names in modules.items() for name in names}
    _print(family, cuts, {m: (smallest[m], result) for m, result in exact.items()}, vision)
    failures = {f"timm {n}": r["error"] for n, r in cuts.items() if r["error"]}
    failures |= {f"timm module {m} ({smallest[m]})": r["error"] for m, r in exact.items() if r["error"]}
    failures |= {f"torchvision {n}": r["error"] for n, r in vision.items() if r["error"]}
    counts = {
        "timm_modules_exact": _right(exact),
        "timm_modules": len(exact),
        "timm_architectures_cut": _right(cuts),
        "timm_architectures": len(cuts),
        "torchvision_exact": _right(vision),
        "torchvision": len(vision),
        "failures": failures,
    }
    print(json.dumps(counts))


class Store:
    """Results by name, forgotten when the code that cuts changes; written after each one, so that a run can go on."""

    def __init__(self) -> None:
        self.key = digest([ROOT / "lib" / "chain" / "chain.py"])
        found = json.loads(STORE.read_text()) if STORE.is_file() else {}
        same = found.get("key") == self.key
        self.results = {n: r for n, r in found.get("results", {}).items() if same or n.startswith("size ")}

    def get(self, name: str, compute: Callable[[], Result]) -> Result:
        """The kept result, or that of `compute`, kept from now on."""
        if name not in self.results:
            started = time.perf_counter()
            try:
                result = compute()
            except Exception as error:  # whatever an architecture does must not end the run
                line = str(error) if isinstance(error, BrickyardError) else f"{type(error).__name__}: {error}"
                result = {"error": " ".join(line.split())[:300]}
            self.results[name] = {"error": None, "seconds": round(time.perf_counter() - started, 2), **result}
            gc.collect()
            STORE.parent.mkdir(exist_ok=True)
            STORE.write_text(json.dumps({"key": self.key, "results": self.results}))
        return self.results[name]


def cut(name: str) -> Result:
    """Takes an architecture of timm apart without weights; raises where it cannot, or costs do not add up."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    shape = _shape(model)
    chain = Chain(name, model.eval(), shape)
    found = {"nodes": len(chain), "params": cost.params(model)}
    total, parts = chain.total, sum((node.cost for node in chain.nodes), chain.head_cost)
    if chain.unused < 0 or parts.params < total.params:
        raise BrickyardError(f"parameters: nodes and head {parts.params}, network {cost.params(model)}")
    if total.macs != _macs(model, shape):
        raise BrickyardError(f"MACs: nodes and head {total.macs}, network {_macs(model, shape)}")
    return found


def exact_timm(name: str) -> Result:
    """`exact` for an architecture of timm with random weights, dropout off."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    return exact(name, model, _shape(model))


def exact_torchvision(name: str) -> Result:
    """`exact` for a classifier of torchvision with random weights."""
    import torchvision

    torch.manual_seed(0)
    kwargs = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **kwargs)
    return exact(name, model, (3, 299, 299) if name == "inception_v3" else (3, 224, 224))


def exact(name: str, model: nn.Module, shape: tuple[int, ...]) -> Result:
    """Raises unless the parts at three random cuts are the network, bit by bit, and give its gradients."""
    if _macs(model.eval(), shape) > 200e9:  # too much for a small machine; such networks take smaller images
        shape = (3, 84, 84) if shape[1] % 14 == 0 else (3, 96, 96)
    chain = Chain(name, model.eval(), shape)
    generator = random.Random(name)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    count = min(3, len(chain) - 1)
    points = [0, *sorted(generator.sample(range(1, len(chain)), count)), len(chain)]
    parts = [chain[a:b] for a, b in zip(points, points[1:], strict=False)]

    def composed(images: torch.Tensor) -> torch.Tensor:
        for part in parts:
            images = part(images)
        return chain.head(images)

    with torch.no_grad():
        expected, found = model(x), composed(x)
    if not torch.equal(expected, found):
        raise BrickyardError(f"{len(chain)} nodes, eval: differs by {float((expected - found).abs().max()):.2g}")
    chain.verify(x)
    _without_dropout(model)
    for module in (model, *parts, chain.head):
        module.train()
    modes = [_gradients(model, lambda: _main(model(x))), _gradients(model, lambda: composed(x))]
    worst = max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(*modes, strict=True))
    if worst > 0:
        raise BrickyardError(f"{len(chain)} nodes, train: gradients differ by {worst:.2g}, relative")
    return {"nodes": len(chain), "cuts": points[1:-1]}


def _gradients(model: nn.Module, forward: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of the mean square of the logits, BatchNorm's running statistics as they were."""
    state = copy.deepcopy(model.state_dict())
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    forward().square().mean().backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.load_state_dict(state)
    return found


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        for rate in ("p", "drop_prob", "drop_path_prob", "attn_drop_p", "dropout", "stochastic_depth_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


def _main(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else _main(next(iter(output)))


def _shape(model: Any) -> tuple[int, ...]:
    """What timm's default configuration says of the input."""
    return tuple(model.pretrained_cfg["input_size"])


def _macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    return cost.count(model, shape).macs


def _smallest(names: Iterable[str], store: Store) -> str:
    """The architecture with the fewest parameters, by number of parameters without building weights."""
    return min(
        names, key=lambda name: (store.get(f"size {name}", lambda: _size(name)).get("params", sys.maxsize), name)
    )


def _size(name: str) -> Result:
    import timm

    with torch.device("meta"):
        return {"params": cost.params(timm.create_model(name, pretrained=False))}


def _right(results: dict[str, Result]) -> int:
    return sum(result["error"] is None for result in results.values())


def _print(
    family: dict[str, str],
    cuts: dict[str, Result],
    exact: dict[str, tuple[str, Result]],
    vision: dict[str, Result],
) -> None:
    table = Table("module", "cut", "of", "nodes", "smallest", "exact", "s")
    for module in sorted({family[name] for name in cuts} | set(exact)):
        own = {name: result for name, result in cuts.items() if family[name] == module}
        nodes = [result["nodes"] for result in own.values() if result["error"] is None]
        name, result = exact.get(module, ("", {"error": "", "seconds": 0}))
        table.add_row(
            module,
            str(_right(own)),
            str(len(own)),
            f"{min(nodes)}-{max(nodes)}" if nodes else "",
            name,
            "yes" if result["error"] is None else result["error"][:60],
            str(result["seconds"]),
        )
    table.add_row("torchvision", "", "", "", f"{len(vision)} classifiers", f"{_right(vision)} exact", "")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
