"""The zoo: entries become networks, mistakes are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib.base.errors import BrickyardError
from lib.params.zoo import ZooModel
from lib.trace import cost
from lib.zoo.create import create, origin, own_classes
from tests import pico

PLAIN = {"factory": "data/models/plain_cnn.py:plain_cnn", "kwargs": {"widths": [[4], [6]]}, "input_size": 16}


def _entry(**fields: Any) -> ZooModel:
    return ZooModel.model_validate({**PLAIN, "weights": "train", **fields})


def test_timm_by_name_with_arguments() -> None:
    entry = ZooModel.model_validate(
        {"timm": "resnet18", "kwargs": {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 8]}, "weights": "train"}
    )
    model, _, expected = create("r", entry, 5)
    assert model(torch.rand(1, *expected.shape)).shape == (1, 5)
    assert cost.params(model) < 50_000
    assert expected.size == 224


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_checkpoint_fills_every_weight(tmp_path: Path, suffix: str) -> None:
    source = pico.alive(create("plain", _entry(), 3)[0])
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}, "epoch": 3}, file)
    else:
        save_file(source.state_dict(), file)
    model, _, _ = create("plain", _entry(weights=str(file)), 3)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in source.state_dict().items())


def test_own_classes_are_numbered() -> None:
    model, _, expected = create("plain", _entry(weights="train"), 3)
    assert own_classes(model, expected) == ("0", "1", "2")


class _Exploding:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_mistakes_name_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": _Exploding()}, tmp_path / "code.pth")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    (tmp_path / "typo.py").write_text("def net(:\n")
    (tmp_path / "factory.py").write_text(
        "def broken(num_classes): raise RuntimeError('no luck')\ndef odd(num_classes): 3"
    )
    for fields, message in [
        (
            {"factory": None, "timm": "resnet_18", "kwargs": {}},
            "timm has no architecture 'resnet_18'; did you mean .*resnet18",
        ),
        ({"factory": None, "timm": "resnet18", "kwargs": {"colour": 1}}, "timm resnet18 with {'colour': 1}: TypeError"),
        ({"weights": "nowhere.pth"}, r"no file nowhere\.pth; use train, pretrained, random or the path"),
        ({"weights": str(tmp_path / "code.pth")}, r"code\.pth cannot be read"),
        (
            {"weights": str(tmp_path / "other.pth")},
            r"other\.pth leaves 0\.0\.weight, .* and \d+ more unfilled",
        ),
        ({"weights": str(tmp_path / "damaged.safetensors")}, r"damaged\.safetensors cannot be read"),
        ({"factory": f"{tmp_path}/factory.py:broken", "kwargs": {}}, "RuntimeError: no luck"),
        ({"factory": f"{tmp_path}/factory.py:odd", "kwargs": {}}, "returned a NoneType, not an nn.Module"),
        ({"factory": f"{tmp_path}/typo.py:net"}, r"typo\.py: SyntaxError: "),
        (
            {"factory": None, "timm": "vit_tiny_patch16_224", "kwargs": {"img_size": 32, "patch_size": 4}},
            "fails on an image of 16 x 16 pixels .*32.*; set input_size to what it takes",
        ),
        ({"factory": f"{tmp_path}/factory.py:missing"}, "has no function 'missing'"),
        ({"factory": "nowhere.py:f"}, r"nowhere\.py not found"),
        ({"factory": "no_such_package.x:f"}, "No module named 'no_such_package'"),
    ]:
        with pytest.raises(BrickyardError, match=message) as caught:
            create("mine", _entry(**fields), 3)
        assert str(caught.value).startswith("zoo.models.mine: ")
        assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


def test_an_edited_factory_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "factory.py"
    made = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))"
    file.write_text(f"from torch import nn\ndef make(num_classes): return {made}\n")
    _, architecture, _ = create("mine", _entry(factory=f"{file}:make", kwargs={}), 3)
    file.write_text(file.read_text() + "# edited\n")
    with pytest.raises(BrickyardError, match="has changed since the network was made"):
        architecture.build(trust=True)


PRETRAINED = [
    (
        {"timm": "resnet18"},
        3,
        r"\.classes = 'all': pretrained weights have 1000 labels of their own; write `classes: own`",
    ),
    ({"timm": "vit_base_patch14_dinov2"}, 3, r"\.classes = 'all': pretrained weights have labels of their own"),
    ({"torchvision": "resnet18"}, 3, r"\.classes = 'all': pretrained weights have 1000 labels of their own"),
    ({"timm": "resnet18", "classes": "own", "kwargs": {"num_classes": 9}}, None, r"\.kwargs\.num_classes = 9: .* 1000"),
    ({"torchvision": "resnet18", "classes": "own", "kwargs": {"num_classes": 9}}, None, r"\.kwargs\..* = 9: .* 1000"),
    ({"timm": "resnet_18"}, None, ": timm has no architecture 'resnet_18'"),
    ({"timm": "resnet18.none"}, None, r": timm resnet18\.none .*Invalid pretrained tag"),
    ({"torchvision": "resnet_18"}, None, ": torchvision has no classifier 'resnet_18'"),
    ({"torchvision": "resnet18.V1"}, None, ": torchvision resnet18 has no weights 'V1'; it has IMAGENET1K_V1$"),
]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for weights from elsewhere fails."""

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("downloads")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("fields", "count", "message"), PRETRAINED)
def test_pretrained_weights_keep_their_labels(fields: dict[str, Any], count: int | None, message: str) -> None:
    """timm would fill all but the classifier and say nothing."""
    entry = ZooModel.model_validate({**fields, "weights": "pretrained"})
    with pytest.raises(BrickyardError, match=rf"^zoo\.models\.mine{message}"):
        create("mine", entry, count)


RANDOM = {  # architecture: what timm or torchvision say of its images
    ("timm", "resnet18.fb_swsl_ig1b_ft_in1k"): (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 0.875),
    ("timm", "mobilenetv3_large_100.miil_in21k"): (224, (0, 0, 0), (1, 1, 1), "bilinear", 0.875),
    ("timm", "vit_tiny_patch16_224.augreg_in21k"): (224, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9),
    ("torchvision", "regnet_y_400mf"): (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 224 / 232),
    ("torchvision", "regnet_y_400mf.IMAGENET1K_V1"): (
        *(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 224 / 256),
    ),
}


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("source", "name"), RANDOM)
def test_random_weights_are_not_downloaded_and_see_images_as_the_others(source: str, name: str) -> None:
    entry = ZooModel.model_validate({source: name, "weights": "random"})
    model, architecture, expected = create("mine", entry, 4)
    assert (expected.size, expected.mean, expected.std, expected.interpolation, expected.crop_pct) == RANDOM[
        source, name
    ]
    assert model(torch.rand(1, *expected.shape)).shape == (1, 4)
    assert (getattr(architecture, source), architecture.num_classes) == (name, 4)
    assert origin(entry, model) == "random"


@pytest.mark.parametrize(("classes", "count"), [("own", None), ("all", 1000)])  # a data set such as theirs
def test_pretrained_weights_with_their_own_labels_are_filled_in(
    classes: str, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    hub = timm.create_model("resnet18").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(hub))
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", lambda *_, **__: dict(hub))
    entry = ZooModel.model_validate({"timm": "resnet18", "weights": "pretrained", "classes": classes, "input_size": 32})
    model, architecture, _ = create("mine", entry, count)
    assert all(torch.equal(value, hub[key]) for key, value in model.state_dict().items())
    assert architecture.num_classes == count


@pytest.mark.parametrize("tag", ["IMAGENET1K_V1", "IMAGENET1K_V2"])
def test_torchvisions_weights_are_filled_in_by_their_tag(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    asked: list[str] = []
    hub = models.mobilenet_v3_large().state_dict()

    def fetched(url: str, **_: Any) -> dict[str, Any]:
        asked.append(url)
        return dict(hub)

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    fields = {"torchvision": f"mobilenet_v3_large.{tag}", "weights": "pretrained", "classes": "own", "input_size": 64}
    model, architecture, _ = create("mine", ZooModel.model_validate(fields), None)
    assert asked == [models.MobileNet_V3_Large_Weights[tag].url]
    assert all(torch.equal(value, hub[key]) for key, value in model.state_dict().items())
    assert architecture.build().state_dict().keys() == hub.keys()  # of a recipe, without fetching


def test_where_weights_came_from_is_told_without_the_machines_folders(tmp_path: Path) -> None:
    import timm

    pretrained = ZooModel.model_validate({"timm": "resnet18", "weights": "pretrained"})
    assert origin(pretrained, timm.create_model("resnet18")) == "pretrained resnet18.a1_in1k"
    other = ZooModel.model_validate({"torchvision": "resnet18", "weights": "pretrained"})
    assert origin(other, pico.plain(2)) == "pretrained ResNet18_Weights.IMAGENET1K_V1"
    tagged = ZooModel.model_validate({"torchvision": "resnet50.IMAGENET1K_V1", "weights": "pretrained"})
    assert origin(tagged, pico.plain(2)) == "pretrained ResNet50_Weights.IMAGENET1K_V1"
    assert origin(_entry(weights=str(tmp_path / "mine.pth")), pico.plain(2)) == "mine.pth"
    assert origin(_entry(weights="data/models/mine.pth"), pico.plain(2)) == "data/models/mine.pth"
    assert origin(_entry(), pico.plain(2)) == "train"


FORWARDS = {
    "keywords": ("forward(self, x, **kwargs)", "return self.fc(x.mean((2, 3)))", None),
    "none": ("forward(self, x=None)", "return self.fc(x.mean((2, 3)))", None),
    "auxiliary": ("forward(self, x)", "y = self.fc(x.mean((2, 3))); return (y, y) if self.training else y", None),
    "named": ("forward(self, x)", "y = self.fc(x.mean((2, 3))); return {'logits': y} if self.training else y", None),
    "train": (
        "forward(self, x)",
        "assert not self.training, 'too small'; return self.fc(x.mean((2, 3)))",
        "in train mode .too small.",
    ),
    "features": (
        "forward(self, x)",
        "return x.mean((2, 3)) if self.training else self.fc(x.mean((2, 3)))",
        r"returns \[2, 3\] for 2 images in train mode; expected logits \[2, 4\]",
    ),
}


@pytest.mark.parametrize("kind", FORWARDS)
def test_what_a_network_must_do_in_train_mode(tmp_path: Path, kind: str) -> None:
    signature, body, line = FORWARDS[kind]
    code = "from torch import nn\nclass Net(nn.Module):\n def __init__(self, num_classes):\n  super().__init__()\n"
    code += "  self.norm = nn.BatchNorm2d(3)\n  self.fc = nn.Linear(3, num_classes)\n"
    (tmp_path / "net.py").write_text(f"{code} def {signature}:\n  x = self.norm(x); {body}\n")
    entry = _entry(factory=f"{tmp_path}/net.py:Net", kwargs={})
    if line is None:
        model, _, _ = create("mine", entry, 4)
        assert int(model.get_buffer("norm.num_batches_tracked")) == 0
        return
    with pytest.raises(BrickyardError, match=line):
        create("mine", entry, 4)


def test_images_of_one_channel_are_named() -> None:
    entry = _entry(factory=None, timm="resnet18", kwargs={"in_chans": 1, "layers": [1] * 4, "channels": [4] * 4})
    with pytest.raises(BrickyardError, match="takes images of 1 channel, here they have 3"):
        create("mine", entry, 3)
