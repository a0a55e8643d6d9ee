"""Whatever stands in params.yaml is used as it is meant, or refused by lines that name the key; never a traceback."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.faults.params import Field, cases, fields, names, put
from lib.base.errors import BrickyardError
from lib.params import document
from lib.params.base import read, read_all
from lib.params.parse import MOST_BYTES, parse
from lib.params.run import Run

CONTENT = Path("params.yaml").read_bytes()
DOCUMENT = parse(CONTENT).document
FIELDS = fields(DOCUMENT)
TRIED = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def lines(changed: dict[str, Any]) -> list[str]:
    """What is wrong with a document, each mistake one line of bounded length."""
    found = document.check(changed)[1]
    assert all(line.isprintable() and len(line) < 1000 for line in found), found
    return found


def said(content: bytes, folder: Path) -> str:
    """The line that a stage ends with; empty where it would run."""
    file = folder / "params.yaml"
    file.write_bytes(content)
    try:
        read_all(file)
    except BrickyardError as error:
        line = str(error)
    else:
        return ""
    assert line.startswith(str(file))
    assert "\n" not in line
    return line.replace(str(file), "params.yaml")


def test_every_wrong_value_of_every_field_is_refused_by_a_line_that_names_the_key() -> None:
    wrong = cases(DOCUMENT)
    assert lines(DOCUMENT) == []
    assert len(FIELDS) > 100
    assert len(wrong) > 1000
    unnamed = [
        (key, value) for key, value in wrong if not any(names(line, key) for line in lines(put(DOCUMENT, key, value)))
    ]
    assert unnamed == []


NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, -0.0, 5e-324, 1e-300, 1e308, math.nan, math.inf, -math.inf]),
    st.floats(),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=20), st.binary(max_size=5), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=5), NUMBERS), inner)
    ),
    max_leaves=6,
)


@TRIED
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_any_value_of_any_field_is_usable_or_refused(field: Field, value: Any) -> None:
    names_above = field.key.split(".")[:-1]  # what is above is named where nothing else of it is there
    above = [".".join(names_above[:length]) for length in range(2, len(names_above) + 1)]
    last = field.key.rpartition(".")[2]
    found = lines(put(DOCUMENT, field.key, value))
    if found:
        assert any(last in line or names(line, key) for line in found for key in [field.key, *above]), found
    else:
        assert usable(value), value


def usable(value: Any) -> bool:
    """No accepted value is infinite, huge or of several lines."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and key.isidentifier() and usable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(usable(item) for item in value)
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < 2**63
    return value is None or (isinstance(value, str) and not set(value) & set(map(chr, range(32))))


@TRIED
@given(
    at=st.integers(0, len(CONTENT)),
    cut=st.integers(0, 40),
    put_in=st.one_of(st.binary(max_size=6), st.text(max_size=6)),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    at: int, cut: int, put_in: bytes | str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    inserted = put_in.encode(errors="surrogatepass") if isinstance(put_in, str) else put_in
    said(CONTENT[:at] + inserted + CONTENT[at + cut :], tmp_path_factory.getbasetemp())


SIGNS = "-:?,[]{}#&*!|>'\"%@`<= \n\tab01.e~"


@settings(TRIED, max_examples=200)
@given(content=st.binary(max_size=60) | st.text(alphabet=SIGNS, max_size=40).map(str.encode))
def test_no_text_ends_in_a_traceback(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert said(content, tmp_path_factory.getbasetemp())


LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 60))
MERGES = b"a0: &a0 {x: 1}\n" + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (i, i, i - 1, i - 1) for i in range(1, 60))
TEXTS = [
    (b"", "params.yaml is empty"),
    (b"# nothing\n", "params.yaml is empty"),
    (b"- run\n", "should be a mapping of sections"),
    (b"5\n", "should be a mapping of sections"),
    (b"run: {seed: 0\n", "is not valid YAML: line 2: "),
    (b"run:\n\tseed: 0\n", "is not valid YAML: line 2: found character '\\t'"),
    (b"run: {seed: 0, threads: 1, seed: 2}\n", "run.seed: is there twice, in lines 1 and 1"),
    (b"run: {}\nzoo: {}\nrun: {}\n", "run: is there twice, in lines 1 and 3"),
    (b"a: 1\n---\nb: 2\n", "is not valid YAML: line 2: but found another document"),
    (b"run: !!python/object/apply:os.system [ls]\n", "is not valid YAML: line 1: could not determine a constructor"),
    (b"run: !mine 5\n", "is not valid YAML: line 1: could not determine a constructor"),
    (b"run: &a [*a]\n", "line 1: an anchor holds itself"),
    (b"run: *a\n", "is not valid YAML: line 1: found undefined alias"),
    (LAUGHS, "unfolds to more than 100000 values"),
    (MERGES, "unfolds to more than 100000 values"),
    (b"run: " + b"[" * 100 + b"]" * 100, "is nested deeper than 40 levels"),
    (b"run: " + b"[" * 600, "is nested deeper than 40 levels"),
    (b"#" * (MOST_BYTES + 1), f"has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are read"),
    (b"run: \xff\n", "is not text in UTF-8 (byte 6)"),
    ("run: 1".encode("utf-16"), "is not text in UTF-8 (byte 1)"),
    (b"run: \0\n", "is not valid YAML"),
    (b"run: {seed: " + b"9" * 5000 + b"}\n", "is not valid YAML: ValueError"),
    (b"run: {seed: 0x" + b"f" * 5000 + b"}\n", "run.seed = a int: should be less than 2147483648"),
    (b"run: {<<: {1: 2}, seed: 0}\n", "run.1: YAML reads this key as a number"),
    (b"run: {<<: 5, seed: 0}\n", "is not valid YAML: line 1: expected a mapping"),
    (b"runs: {}\n", "runs: unknown section; allowed: run, dataset, zoo"),
    (b"1: {}\n", "params.yaml: 1: YAML reads this key as a number"),
]


@pytest.mark.parametrize(("content", "message"), TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_params_file_is_said_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    line = said(content, tmp_path)
    assert message in line
    assert len(line) < 2000


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert said(b"\xef\xbb\xbf" + CONTENT, tmp_path) == ""


@pytest.mark.parametrize("what", ["folder", "missing"])
def test_what_cannot_be_opened_is_said_in_one_line(what: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    if what == "folder":
        file.mkdir()
    with pytest.raises(BrickyardError, match=r"cannot be read|run from the root"):
        read("run", Run, file)


KEYS = [
    ("18", "zoo.models.18: YAML reads this key as a number; a name begins with a letter"),
    ("1e3", "zoo.models.1e3: YAML reads this key as a number; a name begins with a letter"),
    ("null", "zoo.models.null: YAML reads this key as null; a name begins with a letter"),
    ("true", "zoo.models.true: YAML reads this key as true or false; a name begins with a letter"),
    ("? [a, b]\n    ", "a list or mapping cannot be a key; a name begins with a letter"),
    ("'18'", "zoo.models.18: a name begins with a letter"),
    ("-small", "zoo.models.-small: a name begins with a letter"),
    ("l; touch x; true", "zoo.models.l; touch x; true: a name begins with a letter"),
    ("$(touch x)", "zoo.models.$(touch x): a name begins with a letter"),
    ("a.b", "zoo.models.a.b: a name begins with a letter"),
    ("../up", "zoo.models.../up: a name begins with a letter"),
    ("é", "zoo.models.é: a name begins with a letter"),
    ('"a\\nb"', "zoo.models.'a\\nb': a name begins with a letter"),
    ("n" * 65, "64 characters at most"),
    ("Convnext", "zoo.models.convnext: differs from Convnext in case only"),
    ("convnext", "zoo.models.convnext: is there twice, in lines "),
]


@pytest.mark.parametrize(("name", "message"), KEYS, ids=[name for name, _ in KEYS])
def test_a_name_that_is_none_is_one_clear_line(name: str, message: str, tmp_path: Path) -> None:
    content = CONTENT.decode().replace("    resnet:\n", f"    {name}:\n")
    line = said(content.encode(), tmp_path)
    assert line.count("params.yaml: ") == 1
    assert message in line


TAUGHT = {**DOCUMENT["finetune"]["full"], "distillation": 0.5}
TAUGHT.pop("teacher")
RELATIONS = [
    ("finetune.ranks", [1, 13], "finetune.ranks.1 = 13: should be at most assembly.pool = 12"),
    ("finetune.ranks", [2, 2], "finetune.ranks = [2, 2]: 2 is named twice"),
    ("assembly.pool", 1, "finetune.ranks.1 = 2: should be at most assembly.pool = 1"),
    ("assembly.min_sources", 4, "assembly.min_sources = 4: should be at most partition.num_blocks = 3"),
    ("assembly.max_sources", 1, "assembly.max_sources = 1: should be at least min_sources = 2"),
    ("assembly.include", ["resnt"], "assembly.include.0 = 'resnt': is not one of zoo.models; did you mean resnet?"),
    ("assembly.exclude", ["vit", "none"], "assembly.exclude.1 = 'none': is not one of zoo.models; plain_low,"),
    ("assembly.max_stitches", 0, "assembly.max_stitches = 0: should be greater than or equal to 1"),
    ("partition.cuts", "fre", "partition.cuts = 'fre': should be 'sets' or 'free'"),
    ("assembly.include", ["resnt:2"], "assembly.include.0 = 'resnt': is not one of zoo.models; did you mean resnet?"),
    ("assembly.include", ["resnet:4"], "assembly.include.0 = 'resnet:4': blocks go from 1 to partition.num_blocks = 3"),
    ("assembly.include", ["resnet:0"], "assembly.include.0 = 'resnet:0': should be the name of a network, or that and"),
    ("assembly.include", ["vit:1", "resnet:1"], "a candidate has one block 1, not vit:1 and resnet:1"),
    ("assembly.include", ["vit:1", "vit:2", "resnet", "convnext"], "needs more than partition.num_blocks = 3 blocks"),
    ("assembly.exclude", ["vit", "vit:9"], "assembly.exclude.1 = 'vit:9': blocks go from 1 to"),
    ("assembly.differ_by", 4, "assembly.differ_by = 4: should be at most partition.num_blocks = 3"),
    ("edges.window", 2, "edges.window = 2: should be at most partition.num_blocks - 2 = 1"),
    (
        "assembly.budget.at_least",
        {"macs": 2e7},
        "assembly.budget.at_least.macs = 2e+07: should be at most assembly.",
    ),
    (
        "assembly.treatment",
        "layer",
        "assembly.treatment = 'layer': should be 'auto', 'none', 'statistics', 'head', 'layers' or 'layers_and_head'",
    ),
    ("assembly.licences", ["MIT"], "assembly.licences = ['MIT']: the zoo's networks are under Apache-2.0"),
    ("contributions.models", ["plain_low", "vitt"], "contributions.models.1 = 'vitt': is not one of zoo.models; did"),
    ("components.tasks.low.model", "vit", "components.tasks.low.model = 'vit': is not one of contributions.models"),
    (
        "lego.components",
        ["low", "hihg"],
        "lego.components.1 = 'hihg': is not one of components.tasks; did you mean high",
    ),
    ("lego.components", ["low", "low"], "lego.components = ['low', 'low']: 'low' is named twice"),
    ("lego.components", None, "give either components, by name, or choose"),
    ("similarity.batch_images", 100, "set index to cka_debiased"),
    ("dataset.test", 0.85, "dataset.test = 0.85: dataset.validation + dataset.test must stay below 1"),
    ("dataset.source", "torchvision", "dataset.name = None: source torchvision needs a class"),
    ("zoo.training.distillation", 0.5, "zoo.training.distillation = 0.5: there is no teacher here"),
    ("zoo.training.teacher", "budget", "zoo.training.teacher: unknown key"),
    (
        "finetune.full.teacher",
        "resnt",
        "finetune.full.teacher = 'resnt': is not one of zoo.models; did you mean",
    ),
    ("lego.tuning", TAUGHT, "lego.tuning.teacher = 'budget': lego.choose alone has one; write ensemble or a network's"),
    ("lego.tuning", TAUGHT | {"teacher": "me"}, "lego.tuning.teacher = 'me': is not one of zoo.models"),
    ("components.tuning", TAUGHT | {"epochs": 0}, "components.tuning.epochs = 0: should be at least 1"),
    (
        "components.tuning",
        TAUGHT | {"teacher": "ensemble"},
        "components.tuning.teacher = 'ensemble': should be",
    ),
    ("components.tuning", TAUGHT | {"accumulate": 40}, "components.tuning.accumulate = 40: should be at most"),
    (
        "finetune.full.accumulate",
        33,
        "finetune.full.accumulate = 33: should be at most 32, half of finetune.full.batch",
    ),
    ("zoo.training.epochs", 0, "zoo.training.epochs = 0: should be at least 1"),
    ("zoo.models.vit.training.epochs", 0, "zoo.models.vit.training.epochs = 0: should be at least 1"),
    ("zoo.training.augmentation", {"crop_padding": 99}, "augmentation.crop_padding = 99: should be at most zoo.models"),
    ("zoo.training.augmentation", {"mixup": 1e-5}, "zoo.training.augmentation.mixup = 1e-05: should be 0 or at least"),
    (
        "zoo.training.augmentation",
        {"randaugment": "rand-m99"},
        "randaugment = 'rand-m99': m should be an integer",
    ),
    ("partition.weights.start", 1e-9, "partition.weights.start = 1e-09: should be 0 or at least 0.001"),
]


@pytest.mark.parametrize(("key", "value", "message"), RELATIONS)
def test_what_one_section_says_of_another_must_be_true(key: str, value: Any, message: str) -> None:
    found = lines(put(DOCUMENT, key, value))
    assert any(message in line for line in found), found


def test_minibatches_are_no_larger_than_the_probe_set() -> None:
    changed = put(put(DOCUMENT, "similarity.index", "cka_debiased"), "similarity.batch_images", 513)
    assert lines(changed) == ["similarity.batch_images = 513: should be at most dataset.probe_images = 512, or null"]


def test_padded_components_are_of_one_architecture() -> None:
    changed = put(DOCUMENT, "lego.form", "padded")
    assert lines(changed) == []
    assert lines(put(changed, "zoo.models.plain_low.kwargs", {"widths": [[8]]})) == [
        "lego.form = 'padded': low (from plain_low) and high (from plain_high) differ in architecture; write parallel"
    ]


def test_a_network_that_is_called_as_a_teacher_is_not_taken_for_it() -> None:
    changed = put(DOCUMENT, "zoo.models.ensemble", DOCUMENT["zoo"]["models"]["vit"])
    assert lines(changed) == []
    assert lines(put(changed, "finetune.full.teacher", "ensemble")) == [
        "finetune.full.teacher = 'ensemble': zoo.models.ensemble has this name, too; call it otherwise"
    ]


def test_enough_networks_lend_blocks() -> None:
    others = [name for name in DOCUMENT["zoo"]["models"] if name != "vit"]
    assert lines(put(DOCUMENT, "assembly.exclude", others)) == [
        "assembly.min_sources = 2: 1 networks may lend blocks: vit"
    ]


def test_few_stitches_join_few_networks() -> None:
    changed = put(DOCUMENT, "assembly.max_stitches", 1)
    assert lines(changed) == []
    assert lines(put(changed, "assembly.min_sources", 3)) == [
        "assembly.min_sources = 3: should be at most assembly.max_stitches + 1 = 2"
    ]
    three = ["vit", "resnet:2", "convnext"]
    assert lines(put(changed, "assembly.include", three)) == [
        f"assembly.include = {three}: needs more than assembly.max_stitches = 1 stitches"
    ]


def test_every_block_has_a_network_that_lends_it() -> None:
    first = [f"{name}:1" for name in DOCUMENT["zoo"]["models"]]
    assert lines(put(DOCUMENT, "assembly.exclude", first[1:])) == []
    assert lines(put(DOCUMENT, "assembly.exclude", first)) == [
        f"assembly.exclude = {first}: no network is left for block 1"
    ]


def test_all_mistakes_of_all_sections_are_told_by_whatever_is_read_first(tmp_path: Path) -> None:
    content = CONTENT.replace(b"form: parallel", b"form: paralel").replace(b"bound: exact", b"bond: exact")
    (tmp_path / "params.yaml").write_bytes(content.replace(b"title: Brickyard", b"title: 5"))
    with pytest.raises(BrickyardError) as caught:
        read("run", Run, path=tmp_path / "params.yaml")
    told = str(caught.value).replace(str(tmp_path), "").split("; /params.yaml: ")
    assert [line.removeprefix("/params.yaml: ").split(" ")[0] for line in told] == [
        "partition.bound",
        "partition.bond:",
        "lego.form",
        "report.title",
    ]


def test_a_missing_section_is_named_where_all_are_needed(tmp_path: Path) -> None:
    assert "params.yaml: report is missing" in said(CONTENT.partition(b"report:")[0], tmp_path)
