"""Tuning by protocols: curves and recipe tell what was done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.dery import tuning
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.combining import judge, spoken
from lib.dery.tuning import Tuned, beside_controls, curves, figures, from_scratch, tune, untrained
from lib.fit import stacking
from lib.images.data import DataSet, Loader
from lib.images.sources import Images
from lib.network.parts import Stacking
from lib.params.training import Training, Tuning
from lib.trace.duplicate import duplicate

SETTINGS = Training(epochs=2, batch_size=16, learning_rate=1e-3, weight_decay=0.0, warmup=0.1, label_smoothing=0.0)


def test_curves_and_recipe_tell_what_was_done(bricks: Bricks, images: DataSet) -> None:
    network, before = reassemble(bricks, bricks.pick((0, 0, 2)))
    one = SETTINGS.model_copy(update={"epochs": 1})
    tuned = tune(network, images, {"frozen": one, "full": SETTINGS}, seed=5)
    told = [(row["protocol"], row["epoch"], row["loss"] is None) for row in tuned.curve]
    assert told == [("untrained", 0, True), ("frozen", 1, False), ("full", 2, False), ("full", 3, False)]
    for protocol in ("untrained", "frozen", "full"):
        last = [row["validation_accuracy"] for row in tuned.curve if row["protocol"] == protocol][-1]
        assert last == tuned.validation[protocol]
    assert before.tuning == ()
    frozen, full = network.recipe.tuning
    assert (frozen["protocol"], frozen["epochs"], full["protocol"], full["seed"]) == ("frozen", 1, "full", 5)
    assert full["learning_rate"] == 1e-3
    assert from_scratch({"frozen": one, "full": SETTINGS}).epochs == 3


def test_a_skipped_protocol_leaves_no_trace(bricks: Bricks, images: DataSet) -> None:
    network, _ = reassemble(bricks, bricks.pick((0, 0, 1)))
    none = SETTINGS.model_copy(update={"epochs": 0, "distillation": 0.5})
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned = tune(network, images, {"frozen": none, "full": none}, seed=0)
    assert set(tuned.test) == {"untrained"}
    assert network.recipe.tuning == ()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_missing_teacher_is_noticed_before_anything_is_trained(bricks: Bricks, images: DataSet) -> None:
    network, _ = reassemble(bricks, bricks.pick((0, 0, 1)))
    taught = SETTINGS.model_copy(update={"distillation": 0.5})
    expected = r"finetune\.full\.distillation = 0\.5: there is no teacher, .*; set it to 0"
    with pytest.raises(BrickyardError, match=expected):
        tune(network, images, {"frozen": SETTINGS, "full": taught}, seed=0)
    assert network.recipe.tuning == ()


def test_controls_are_tuned_for_as_long_and_the_rival_is_left_alone(bricks: Bricks, images: DataSet) -> None:
    network, recipe = reassemble(bricks, bricks.pick((0, 0, 1)))
    rival, _ = reassemble(bricks, bricks.whole(0))
    before = {name: tensor.clone() for name, tensor in rival.state_dict().items()}
    one = SETTINGS.model_copy(update={"epochs": 1})
    protocols = {"frozen": one, "full": SETTINGS}
    found = beside_controls(network, rival, images, protocols, seed=3)
    assert list(found) == ["reassembled", "scratch", "zoo"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in rival.state_dict().items())
    assert [row["network"] for row in curves(found)] == ["reassembled"] * 4 + ["scratch"] * 4 + ["zoo"] * 4

    alone = tune(untrained(recipe, 3), images, {"scratch": from_scratch(protocols)}, seed=3)
    zoo = tune(reassemble(bricks, bricks.whole(0))[0], images, protocols, seed=3)
    told = figures(found)
    assert told["test"] == {**found["reassembled"].test, "scratch": alone.test["scratch"], "zoo": zoo.test["full"]}
    assert list(told["validation"]) == ["untrained", "frozen", "full", "scratch", "zoo"]
    assert list(figures(beside_controls(network, None, images, {"full": one}, seed=3))["test"])[-1] == "scratch"


def test_a_rival_of_two_candidates_is_tuned_once(
    bricks: Bricks, images: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again under other settings."""
    one, kept, who = SETTINGS.model_copy(update={"epochs": 1}), Memo(tmp_path), list[str]()
    rival, _ = reassemble(bricks, bricks.whole(0))

    def counted(*given: Any, **named: Any) -> Tuned:
        who.append(given[6] if len(given) > 6 else "reassembled")
        return tune(*given, **named)

    monkeypatch.setattr(tuning, "tune", counted)
    found = []
    for settings in (one, one, SETTINGS):
        network, _ = reassemble(bricks, bricks.pick((0, 0, 1)))
        found.append(beside_controls(network, rival, images, {"full": settings}, seed=3, kept=kept))
    assert found[0] == found[1]
    assert found[2]["zoo"] != found[0]["zoo"]
    assert who == ["reassembled", "scratch", "zoo", "reassembled", "scratch", "reassembled", "scratch", "zoo"]


def test_controls_have_the_same_teacher(bricks: Bricks, images: DataSet) -> None:
    """Each protocol its own; from scratch, that of the last; where none is named, the rival."""
    network, recipe = reassemble(bricks, bricks.pick((0, 0, 1)))
    rival, whole = reassemble(bricks, bricks.whole(0))
    other, its = reassemble(bricks, bricks.whole(1))
    taught = SETTINGS.model_copy(update={"distillation": 0.9, "temperature": 2.0, "learning_rate": 1e-2})
    protocols = {"frozen": taught, "full": taught}
    teachers = {"full": [(other, its), (rival, whole)]}
    found = beside_controls(duplicate(network), rival, images, protocols, seed=3, teachers=teachers)

    both = {"frozen": [(rival, whole)], **teachers}
    alone = tune(network, images, protocols, seed=3, teachers=both)
    longest = {"scratch": from_scratch(protocols)}
    scratch = tune(untrained(recipe, 3), images, longest, seed=3, teachers={"scratch": teachers["full"]})
    zoo = tune(duplicate(rival), images, protocols, seed=3, teachers=both)
    assert found == {"reassembled": alone, "scratch": scratch, "zoo": zoo}
    again, _ = reassemble(bricks, bricks.pick((0, 0, 1)))
    others = beside_controls(again, rival, images, protocols, seed=3)
    for name, one in others.items():
        last, before = one.curve[-1]["loss"], found[name].curve[-1]["loss"]
        assert last != before


def test_the_recipe_names_a_teacher_where_there_was_one(bricks: Bricks, images: DataSet) -> None:
    network, _ = reassemble(bricks, bricks.whole(0))
    teachers = {"full": [(duplicate(network), network.recipe)]}
    one = Tuning.model_validate({**SETTINGS.model_dump(), "epochs": 1, "teacher": "resnet"})
    tune(network, images, {"frozen": one, "full": one.model_copy(update={"distillation": 0.5})}, 0, teachers=teachers)
    assert [how.get("teacher") for how in network.recipe.tuning] == [None, "resnet"]


@pytest.fixture(scope="module")
def centred(bricks: Bricks) -> DataSet:
    """Images of which each class has as many as another; the first network says little else than one of them: it would
    be right but for a bias.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 128, (300, 16, 16, 3)) + rng.integers(0, 128, (300, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    network, recipe = reassemble(bricks, bricks.whole(0))

    def images(labels: np.ndarray) -> Images:
        return Images(
            labels, recipe.classes, np.zeros(300, bool), lambda i: Image.fromarray(pixels[i].astype(np.uint8)), ""
        )

    loader = Loader(images(np.zeros(300, int)), np.arange(300), recipe.input.transform(), 300)
    with torch.no_grad():
        said = network(next(iter(loader))[0])
    labels = (said - said.mean(0)).argmax(1).numpy()
    parts = (np.arange(60), np.arange(60, 200), np.arange(200, 300), np.arange(60))
    return DataSet(images(labels), *parts)


BARELY = {"frozen": SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 1e-7})}


def test_heads_are_fitted_to_validation_images_in_the_end(bricks: Bricks, centred: DataSet) -> None:
    """They say then what maps make of what was said before; of validation images others' maps are told."""
    (plain, _), (network, _) = reassemble(bricks, bricks.whole(0)), reassemble(bricks, bricks.whole(0))
    before, after = tune(plain, centred, BARELY, seed=0), tune(network, centred, BARELY, seed=0, prior=1e-3)
    assert after.test["stacked"] > after.test["frozen"] == before.test["frozen"]
    assert list(before.test) == ["untrained", "frozen"]
    assert after.final_test == after.test["stacked"]
    *_, told = network.recipe.tuning
    assert told == {"protocol": "stacked", "images": len(centred.validation), "ridge": 1e-3 / len(centred.validation)}

    recipe, labels = plain.recipe, torch.from_numpy(centred.labels[centred.validation])
    images = {
        name: torch.cat([x for x, _ in Loader(centred.images, index, recipe.input.transform(), 256)])
        for name, index in (("validation", centred.validation), ("test", centred.test))
    }
    said = spoken(plain, recipe, images["validation"])
    assert after.final_validation == judge(stacking.out_of_fold(said, labels, 1e-3), labels)[0]
    by = stacking.stack(said, labels, 1e-3)
    with torch.no_grad():
        found = network(images["test"])
    torch.testing.assert_close(found, by(spoken(plain, recipe, images["test"])), atol=1e-4, rtol=1e-4)


def test_heads_are_fitted_where_that_helps_or_they_know_the_labels(
    bricks: Bricks, centred: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacking, "out_of_fold", lambda logits, *_: torch.zeros_like(logits[0]))
    network, _ = reassemble(bricks, bricks.whole(0))
    assert "stacked" not in tune(network, centred, BARELY, seed=0, prior=1e-3).test
    assert [how["protocol"] for how in network.recipe.tuning] == ["frozen"]
    known, _ = reassemble(bricks, bricks.whole(0))
    tails = tuple(replace(tail, stacked=Stacking(4, 1e-3)) for tail in known.recipe.tails)
    known.recipe = replace(known.recipe, tails=tails)
    assert "stacked" in tune(known, centred, BARELY, seed=0, prior=1e-3).test
    scratch = untrained(known.recipe, 0)  # whose heads have seen no labels
    assert "stacked" not in tune(scratch, centred, BARELY, seed=0, prior=1e-3).test
    none = {"frozen": SETTINGS.model_copy(update={"epochs": 0})}
    other, _ = reassemble(bricks, bricks.whole(0))
    assert "stacked" not in tune(other, centred, none, seed=0, prior=1e-3).test
