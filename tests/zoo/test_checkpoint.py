"""Checkpoints: taken out of what training scripts wrap around them; what does not fit is named."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.faults import checkpoints, weighted
from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.params.zoo import ZooModel
from lib.zoo import checkpoint
from lib.zoo.card import Input
from lib.zoo.create import check_output, create, origin, own_classes
from tests import pico


@pytest.mark.parametrize("case", list(checkpoints.cases()), ids=lambda case: case.name)
def test_a_checkpoint_fills_the_network_or_is_refused_by_one_line(tmp_path: Path, case: checkpoints.Case) -> None:
    assert checkpoints.fault(case, tmp_path) is None


def test_the_table_tells_right_from_wrong(tmp_path: Path) -> None:
    case = next(case for case in checkpoints.cases() if case.name == "NaN")
    assert "is not in" in str(checkpoints.fault(replace(case, fragment="anything else"), tmp_path))
    assert "NaN" in str(checkpoints.fault(replace(case, expectation="filled"), tmp_path))
    whole = next(case for case in checkpoints.cases() if case.name == "state_dict")
    assert checkpoints.fault(replace(whole, expectation="refused"), tmp_path) == "filled ()"
    other = replace(whole, network=lambda seed: weighted.plain(seed + (seed == checkpoints.SEED)))
    assert checkpoints.fault(other, tmp_path) == "filled, but conv.weight is wrong"


def test_the_card_tells_where_in_a_file_the_weights_were(tmp_path: Path) -> None:
    wrapped = {"state_dict": {f"module.{k}": v for k, v in pico.PicoResNet().half().state_dict().items()}}
    torch.save(wrapped, tmp_path / "x.pth")
    entry = ZooModel.model_validate({"factory": "tests.pico:PicoResNet", "weights": str(tmp_path / "x.pth")})
    assert origin(entry, pico.PicoResNet()) == "x.pth (state_dict, prefix module., from float16)"
    torch.save(pico.PicoResNet().state_dict(), tmp_path / "x.pth")
    assert origin(entry, pico.PicoResNet()) == "x.pth"


def test_a_network_that_has_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match="weight has no shape before the network has run"):
        checkpoint.fill(nn.LazyLinear(3), {"weight": torch.ones(3, 2)}, Path("x.pth"))


def test_what_does_not_fit_is_named() -> None:
    model, path = pico.PicoResNet(), Path("x.pth")
    state = dict(model.state_dict())
    less = {name: tensor for name, tensor in state.items() if not name.startswith("stages.1.1")}
    for tensors, message in [
        (less, r"x\.pth leaves stages\.1\.1\.conv1\.weight, .* and \d+ more unfilled"),
        ({**state, "other": torch.zeros(1)}, "has other that the network has not"),
        (pico.PicoResNet(width=8).state_dict(), r"conv\.weight is \[8, 3, 3, 3\] there and \[6, 3, 3, 3\] here"),
        (pico.PicoResNet(num_classes=7).state_dict(), "has 7 classes; write `classes: own`"),
    ]:
        with pytest.raises(BrickyardError, match=message):
            checkpoint.fill(model, tensors, path)


def test_own_classes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    torch.save(pico.PicoResNet(num_classes=7).state_dict(), tmp_path / "seven.pth")
    fields = {"factory": "tests.pico:PicoResNet", "weights": str(tmp_path / "seven.pth"), "input_size": 16}
    entry = ZooModel.model_validate({**fields, "classes": "own"})
    model, architecture, expected = create("mine", entry, None)
    assert architecture.num_classes == 7
    assert own_classes(model, expected) == tuple("0123456")
    with pytest.raises(BrickyardError, match=r"zoo\.models\.mine: .*has 7 classes; write `classes: own`"):
        create("mine", ZooModel.model_validate(fields), 4)


def test_modules_that_ask_for_a_version_are_filled() -> None:
    from torchvision.models import mnasnet0_5  # refuses a state dict without versions

    source, target = mnasnet0_5(num_classes=3), mnasnet0_5(num_classes=3)
    checkpoint.assign(target, dict(source.state_dict()))
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())


def test_torchvision_by_name_with_its_own_input() -> None:
    entry = ZooModel.model_validate({"torchvision": "shufflenet_v2_x0_5", "weights": "train"})
    model, _, expected = create("shuffle", entry, 5)
    assert (expected.size, round(expected.crop_pct, 3), expected.interpolation) == (224, 0.875, "bilinear")
    assert model(torch.rand(1, *expected.shape)).shape == (1, 5)
    wrong = ZooModel.model_validate({"torchvision": "resnet_18", "weights": "train"})
    with pytest.raises(BrickyardError, match="torchvision has no classifier 'resnet_18'; did you mean resnet18"):
        create("shuffle", wrong, 5)


def test_what_a_network_must_return() -> None:
    for network, message in [
        (lambda **_: nn.Flatten(), r"returns \[1, 768\] for one image; expected logits \[1, 4\]"),
        (lambda **_: nn.Linear(3, 4), "fails on an image of 16 x 16 pixels .*; set input_size"),
        (lambda **_: nn.Bilinear(3, 3, 4), r"takes 2 inputs \(input1, input2\); a network must take one, the images"),
        (lambda **_: _Pair(), "returns a tuple; a network must return logits"),
    ]:
        made = Input(16, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
        with pytest.raises(BrickyardError, match=message):
            check_output(network(), made, 4)


class _Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_the_cifar_resnets_have_their_published_size(depth: int, parameters: int) -> None:
    fields = {"factory": "data/models/cifar_resnet.py:cifar_resnet", "kwargs": {"depth": depth}, "input_size": 32}
    model, _, expected = create("r", ZooModel.model_validate({**fields, "weights": "train"}), 10)
    chain = Chain("r", model, expected.shape)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(chain) == (depth - 2) // 2  # one node a residual block
    chain.verify(torch.rand(2, *expected.shape))
