"""Every preset is right as a whole, and what it names is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
from PIL import Image
from ruamel.yaml import YAML
from timm.models import is_model_pretrained
from torchvision import datasets

from commands import check
from lib.base.code import ROOT
from lib.params.base import read_all
from lib.params.document import check as checked
from lib.params.parse import parse
from lib.params.sections import Sections
from lib.params.zoo import ZooModel
from lib.zoo.architecture import Factory
from lib.zoo.create import check_pretrained
from lib.zoo.published import torchvision_weights

FILES = {file.stem: file for file in sorted((ROOT / "presets").glob("*.yaml"))}
PRETRAINED = ("dery", "folder-224")
PUBLISHED = {(10, 3), (20, 5), (30, 6), (50, 10), (90, 20)}  # limits of DeRy's five settings, in M and G


def _given(name: str) -> Sections:
    return read_all(FILES[name])


def _zoo(name: str) -> dict[str, ZooModel]:
    zoo = _given(name).zoo
    assert zoo is not None
    return zoo.models


def test_those_that_are_promised_are_there() -> None:
    named = {"cifar10", "dery", "digits", "folder-224", "mda-googlenet", "mda-resnet50", "mda-vgg16"}
    assert set(FILES) == named


def test_digits_is_the_default() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert FILES["digits"].read_text() == text, "cp params.yaml presets/digits.yaml, or put the preset in place"


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_tells_what_it_is(name: str) -> None:
    first = FILES[name].read_text().splitlines()[0]
    assert re.fullmatch(rf"# {name}: .{{30,}}", first)


@pytest.mark.parametrize("name", FILES)
def test_all_sections_are_right_and_agree(name: str) -> None:
    given = _given(name)  # raises for each mistake in a section and between sections
    assert all(section is not None for section in vars(given).values())


@pytest.mark.parametrize("name", FILES)
def test_each_parameter_of_the_stages_is_there(name: str) -> None:
    """DVC refuses a file without one."""
    dag = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    document = parse(FILES[name].read_bytes()).document
    for stage in dag.values():
        listed = [key for key in stage.get("do", stage).get("params", []) if isinstance(key, str) and "$" not in key]
        for key in [*listed, *re.findall(r"[\w.]+", stage.get("foreach", ""))]:
            value: Any = document
            for part in key.split("."):
                assert part in value, f"{key} is missing"
                value = value[part]


@pytest.mark.parametrize("name", FILES)
def test_comments_are_those_of_the_default(name: str) -> None:
    """But for the images, the zoo, and lines that say something of their own."""

    def comments(file: Path) -> set[str]:
        text = file.read_text()
        rest = text[text.index("\nactivations:") :]
        return {line.strip() for line in rest.splitlines() if line.strip().startswith("#")}

    own = comments(FILES[name]) - comments(FILES["digits"])
    assert len(own) <= 7, own


@pytest.mark.parametrize("name", FILES)
def test_architectures_and_weights_exist(name: str) -> None:
    for key, entry in _zoo(name).items():
        where = f"{name}: {key}"
        assert entry.weights == ("pretrained" if entry.factory is None and name in PRETRAINED else "train"), where
        if entry.factory is not None:
            assert Factory.find(entry.factory, trust=False).sha256, where
        elif entry.timm is not None:
            assert timm.is_model(entry.timm), where
            assert "." in entry.timm or entry.weights == "train", f"{where}: no tag of its weights"
        if entry.weights == "pretrained" and entry.timm is not None:
            assert is_model_pretrained(entry.timm), where
            config: Any = timm.get_pretrained_cfg(entry.timm)
            assert config.input_size == (3, 224, 224), where
            assert (config.license or "unknown") == entry.licence.lower(), where
        if entry.torchvision is not None:
            assert "." in entry.torchvision, f"{where}: no tag of its weights"
            assert torchvision_weights(entry.torchvision).transforms().crop_size == [224], where
        check_pretrained(key, entry, None if entry.classes == "own" else 10)


def test_the_zoo_of_the_paper_is_complete() -> None:
    """21 architectures, 28 weights."""
    zoo = {key: entry for key, entry in _zoo("dery").items() if entry.weights == "pretrained"}
    names = [str(entry.timm or entry.torchvision) for entry in zoo.values()]
    assert len(set(names)) == 28
    assert len({name.split(".")[0] for name in names}) == 21
    assembly = _given("dery").assembly
    assert assembly is not None
    assert set(_zoo("dery")) - set(zoo) == set(assembly.exclude)


def test_each_of_the_papers_budgets_can_be_taken() -> None:
    text = FILES["dery"].read_text()
    lines = re.findall(r"^  (?:# )?budget: .*$", text, re.MULTILINE)
    (active,) = (line for line in lines if not line.startswith("  #"))
    none = text.replace(active, f"  # {active.strip()}")
    found = set()
    for line in (line.strip(" #") for line in lines):
        chosen = none.replace(f"  # {line}", f"  {line}")
        sections, mistakes = checked(parse(chosen.encode()).document)
        assert not mistakes
        assert sections.assembly is not None
        assert sections.partition is not None
        limits = sections.assembly.budget.limits()
        found.add((limits["params"] / 1e6, limits["macs"] / 1e9))
        k, params, macs = map(int, re.findall(r"\d+", line.rpartition("#")[2]))
        assert (k, params, macs) == (sections.partition.num_blocks, limits["params"] / 1e6, limits["macs"] / 1e9)
    assert found == PUBLISHED


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("mda-")])
def test_each_of_the_papers_data_sets_can_be_taken(name: str) -> None:
    text = FILES[name].read_text()
    line = re.search(r"^  name: CIFAR10 # .*: ([\w |]+) \(", text, re.MULTILINE)
    assert line is not None
    names = line[1].split(" | ")
    assert set(names) == {"CIFAR10", "CIFAR100", "MNIST", "FashionMNIST"}
    taken = [text.replace("  name: CIFAR10 ", f"  name: {one} ") for one in names]
    folder = {"source: torchvision #": "source: folder #", "name: CIFAR10 ": "name: null ", "size: 32 #": "size: 64 #"}
    for here, there in folder.items():
        assert here in text
        text = text.replace(here, there)
    for chosen in (*taken, text):
        sections, mistakes = checked(parse(chosen.encode()).document)
        assert not mistakes
        assert sections.dataset is not None
        assert sections.dataset.name is None or hasattr(datasets, sections.dataset.name)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of noise."""
    folder = tmp_path_factory.mktemp("images")
    for label in range(10):
        (folder / f"class {label}").mkdir()
        for i in range(90):
            Image.effect_noise((32, 32), 10 + label + i).convert("RGB").save(folder / f"class {label}" / f"{i}.png")
    return folder


def _check(name: str, images: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, out: pytest.CaptureFixture) -> str:
    """What commands.check says of a preset with these images."""
    text = re.sub(r"(?m)^  (source|path|name): [^#\n]*(?=\n| #)", "", FILES[name].read_text(), count=3)
    text = text.replace("\ndataset:\n", f"\ndataset:\n  source: folder\n  path: {images}\n")
    (folder / "params.yaml").write_text(text)
    monkeypatch.chdir(folder)
    check.main()
    return out.readouterr().out


SLOW = pytest.mark.slow
CASES = [pytest.param(name, marks=() if name in ("cifar10", "mda-vgg16") else SLOW) for name in FILES]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_the_networks_are_built_and_cut(
    name: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of dery that takes minutes and 4 GiB of memory."""
    said = _check(name, photographs, tmp_path, monkeypatch, capsys)
    assert said.startswith(f"ok: {len(_zoo(name))} networks, 900 images, 10 classes; whether"), said
