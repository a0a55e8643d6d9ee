"""Tuning of a reassembled network: frozen (stitches and head), full (everything), or from scratch as a control. In the
end heads may be fitted to the labels of validation images, which is ours, not in the paper.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import memo, processes
from ..base.artifacts import tensor_checksum
from ..base.errors import BrickyardError
from ..base.memo import Memo
from ..images.data import DataSet, Loader
from ..network.modules import ReassembledNetwork
from ..network.reassembled import Reassembled
from ..params.training import Training
from ..trace import graph
from ..trace.duplicate import duplicate
from ..training.fit import accuracy, fit
from ..zoo import ask
from ..zoo.teachers import Networks, Teacher
from .combining import Combiner, folded, is_stackable, spoken


@dataclass(frozen=True)
class Tuned:
    """How a network did before and after tuning.

    validation, test: accuracy in percent, `untrained`, after each protocol, and `stacked` where heads were fitted to
        labels in the end; on validation images by maps that the other half of them has fitted. Heads that assembly has
        stacked know labels of these: what is told of them there, untrained and after a protocol, is a little high.
    balanced: as test, the mean of the classes' accuracies.
    curve: a row an epoch, counted over all protocols, and one for epoch 0, before training, without a loss.
    """

    validation: dict[str, float]
    test: dict[str, float]
    balanced: dict[str, float]
    curve: list[dict[str, Any]]

    @property
    def final_test(self) -> float:
        """Test accuracy after the last protocol."""
        return list(self.test.values())[-1]

    @property
    def final_validation(self) -> float:
        """Validation accuracy after the last protocol."""
        return list(self.validation.values())[-1]


def tune(
    network: ReassembledNetwork,
    data: DataSet,
    protocols: Mapping[str, Training],
    seed: int,
    scratch: Path | None = None,
    teachers: Mapping[str, Networks] | None = None,
    who: str = "reassembled",
    prior: float | None = None,
) -> Tuned:
    """Trains `network` in place by one protocol after another; under `frozen` only stitches and head learn.

    Its recipe then names the protocols.

    scratch: where a killed run leaves its state and goes on.
    prior: of maps of the tails' logits that are fitted to the labels of the validation images when all is trained, and
        become part of the heads where they are more accurate on images that have not fitted them, or the heads know
        such labels already; None: none are fitted.
    teachers: by protocol, networks that know the task's classes, of whose logits the mean teaches, for distillation.
    who: is tuned, for progress and errors.

    Raises BrickyardError, before anything is trained, where a teacher is missing.
    """
    teachers = teachers or {}
    _check_taught(protocols, teachers)
    transform = network.recipe.input.transform()

    def loader(index: np.ndarray, batch_size: int = 256) -> Loader:
        return Loader(data.images, index, transform, batch_size)

    device = next(network.parameters()).device
    network.to(memory_format=graph.quickest(network, who, network.recipe.input.shape))
    on_validation, on_test = loader(data.validation), loader(data.test)
    validation = {"untrained": accuracy(network, on_validation)}
    test = {"untrained": ask.of(network, on_test)}
    curve: list[dict[str, Any]] = [
        {"protocol": "untrained", "epoch": 0, "loss": None, "validation_accuracy": validation["untrained"]}
    ]
    for protocol, settings in protocols.items():
        if settings.epochs == 0:
            continue
        teacher = None
        if settings.distillation > 0:
            teacher = Teacher(teachers[protocol], network.recipe.classes, network.recipe.input).to(device)
        rows = fit(
            network,
            loader(data.train, settings.batch_size),
            settings,
            seed,
            parameters=network.new_parameters() if protocol == "frozen" else None,
            validate=lambda result: accuracy(result, on_validation),
            teacher=teacher,
            scratch=scratch,
            what=f"finetune.{protocol} of {who}",
            rate=f"finetune.{'full' if protocol == 'scratch' else protocol}.learning_rate",
        )
        done = curve[-1]["epoch"]
        curve += [{"protocol": protocol, **row, "epoch": done + row["epoch"]} for row in rows]
        validation[protocol] = rows[-1]["validation_accuracy"]
        test[protocol] = ask.of(network, on_test)
        network.recipe = replace(network.recipe, tuning=(*network.recipe.tuning, _told(protocol, settings, seed)))
    if network.recipe.tuning and prior is not None:
        stacked = _stack(network, on_validation, prior)
        if stacked is not None:
            validation["stacked"] = stacked
            test["stacked"] = ask.of(network, on_test)
    balanced = {protocol: found.balanced for protocol, found in test.items()}
    return Tuned(validation, {protocol: found.accuracy for protocol, found in test.items()}, balanced, curve)


@torch.no_grad()
def _stack(network: ReassembledNetwork, labelled: Loader, prior: float) -> float | None:
    """Folds maps that are fitted to labelled images into a network's heads, and returns its accuracy on these, in
    percent, by maps that others of them have fitted; None, and nothing is changed, where that is not better than
    without maps.
    """
    recipe, own = network.recipe, duplicate(network).cpu()
    pairs = [(spoken(own, recipe, x), y) for x, y in labelled]
    logits, labels = torch.cat([said for said, _ in pairs], 1), torch.cat([y for _, y in pairs])
    x = next(iter(labelled))[0]
    known = any(tail.stacked is not None for tail in recipe.tails)
    judged, by = Combiner(labels, prior).best(list(logits), is_stackable(own, x[:1]), known)
    if by is None:
        return None
    made, _ = folded(own, recipe, by, x)
    network.load_state_dict(made.state_dict())
    told = {"protocol": "stacked", "images": by.images, "ridge": by.ridge}
    network.recipe = replace(recipe, tuning=(*recipe.tuning, told))
    return judged[0]


def beside_controls(
    network: ReassembledNetwork,
    rival: ReassembledNetwork | None,
    data: DataSet,
    protocols: Mapping[str, Training],
    seed: int,
    scratch: Path | None = None,
    teachers: Mapping[str, Networks] | None = None,
    prior: float | None = None,
    kept: Memo | None = None,
) -> dict[str, Tuned]:
    """Tunes `network` in place, `reassembled`, and what it must be compared to: `scratch`, the same network from random
    weights, for as long as by all protocols; `zoo`, where there is one, a copy of `rival`, by the same protocols.

    rival: the best zoo network within the budget.
    teachers: as `tune` takes them, of all of these; of a protocol that is not named, `rival` is the teacher.
    prior: as `tune` takes it, for all of these.
    kept: where what becomes of `zoo` is found again: candidates of one budget have the same rival.

    Raises BrickyardError as `tune` does.
    """
    kept = kept or Memo()
    device = next(network.parameters()).device
    teachers = dict(teachers or {})
    if rival is not None:
        teachers = {protocol: [(rival, rival.recipe)] for protocol in protocols} | teachers
    *_, last = protocols
    if last in teachers:
        teachers["scratch"] = teachers[last]
    longest = {"scratch": from_scratch(protocols)}
    _check_taught({last: longest["scratch"]}, teachers)
    controls = {"scratch": (untrained(network.recipe, seed), longest)}
    if rival is not None:
        controls["zoo"] = (duplicate(rival), dict(protocols))
    found = {"reassembled": tune(network, data, protocols, seed, scratch, teachers, prior=prior)}
    for name, (control, how) in controls.items():
        key = _key(control, data, how, seed, teachers, prior) if name == "zoo" else None
        known = kept.get(key) if key is not None else None
        if known is None:
            found[name] = tune(control.to(device), data, how, seed, scratch, teachers, name, prior)
        else:
            found[name] = Tuned(**json.loads(known["told"].numpy().tobytes()))
        if key is not None and known is None:
            told = json.dumps(asdict(found[name])).encode()
            kept.put(key, {"told": torch.frombuffer(bytearray(told), dtype=torch.uint8)})
    return found


def _key(
    network: ReassembledNetwork,
    data: DataSet,
    protocols: Mapping[str, Training],
    seed: int,
    teachers: Mapping[str, Networks],
    prior: float | None,
) -> str:
    """Of what `tune` would make of a network."""
    indices = [sha256(index.tobytes()).hexdigest() for index in (data.train, data.validation, data.test)]
    taught = {protocol: [tensor_checksum(one.state_dict()) for one, _ in own] for protocol, own in teachers.items()}
    how = {protocol: settings.model_dump() for protocol, settings in protocols.items()}
    parts = [tensor_checksum(network.state_dict()), network.recipe.to_dict(), data.images.checksum, *indices]
    return memo.key(Path(__file__), *parts, how, seed, taught, prior, processes.count())


def _check_taught(protocols: Mapping[str, Training], teachers: Mapping[str, Networks]) -> None:
    for protocol, settings in protocols.items():
        if settings.distillation > 0 and settings.epochs > 0 and protocol not in teachers:
            raise BrickyardError(
                f"finetune.{protocol}.distillation = {settings.distillation:g}: there is no teacher, since no zoo "
                "network is within the budget; set it to 0, or teacher to ensemble or a network's name"
            )


def figures(found: Mapping[str, Tuned]) -> dict[str, dict[str, float]]:
    """Accuracies on test and validation images, on the former balanced, too: of the network after each protocol, of
    its controls in the end.
    """
    own, controls = found["reassembled"], {name: one for name, one in found.items() if name != "reassembled"}
    return {
        "test": {**own.test, **{name: one.final_test for name, one in controls.items()}},
        "validation": {**own.validation, **{name: one.final_validation for name, one in controls.items()}},
        "balanced_test": {**own.balanced, **{name: list(one.balanced.values())[-1] for name, one in controls.items()}},
    }


def curves(found: Mapping[str, Tuned]) -> list[dict[str, Any]]:
    """All learning curves under one another."""
    return [{"network": name, **row} for name, one in found.items() for row in one.curve]


def _told(protocol: str, settings: Training, seed: int) -> dict[str, Any]:
    unused = {"teacher": settings.distillation == 0, "accumulate": settings.accumulate == 1}
    how = settings.model_dump(exclude={name for name, is_unused in unused.items() if is_unused})
    several = {"processes": processes.count()} if processes.count() > 1 else {}
    return {"protocol": protocol, "seed": seed, "threads": torch.get_num_threads(), **several, **how}


def untrained(recipe: Reassembled, seed: int) -> ReassembledNetwork:
    """The control's network: the recipe's, with random weights that depend on `seed` alone, whose heads know no labels
    yet.
    """
    recipe = replace(recipe, tails=tuple(replace(tail, stacked=None) for tail in recipe.tails))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return recipe.build(trust=True)  # of a network that is there: its sources have run already


def from_scratch(protocols: Mapping[str, Training]) -> Training:
    """The control's settings: those of the last protocol, with the epochs of all of them."""
    *_, last = protocols.values()
    return last.model_copy(update={"epochs": sum(settings.epochs for settings in protocols.values())})
