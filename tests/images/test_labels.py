"""Classes as params.yaml names them."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.base.errors import BrickyardError
from lib.images.labels import parse_classes

ANIMALS = ("cat", "dog", "big-cat", "ship")
FROM_ONE = ("1", "2", "3", "4", "10")
SCATTERED = ("007", "2", "30", "100")
MIXED = ("2", "cat", "dog", "7")
ODD = ("all", "own", "bird, caged", "bird, wild", 'the "owl"', "0-2", "été", " b ", "Tomato", "tomato")


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (ANIMALS, "all", ANIMALS),
        (ANIMALS, "2-3, 0", ("cat", "big-cat", "ship")),
        (ANIMALS, "ship, big-cat", ("big-cat", "ship")),
        (ANIMALS, "dog, dog, 0-1", ("cat", "dog")),
        (ANIMALS, '"ship"', ("ship",)),
        (FROM_ONE, "1,2,3", ("1", "2", "3")),
        (FROM_ONE, "1-3", ("1", "2", "3")),
        (FROM_ONE, "3-10, 1", ("1", "3", "4", "10")),
        (FROM_ONE, "10", ("10",)),
        (SCATTERED, "2-30", ("007", "2", "30")),
        (SCATTERED, "7, 100", ("007", "100")),
        (MIXED, "1, 3", ("cat", "7")),
        (MIXED, "0-2", ("2", "cat", "dog")),
        (MIXED, '"2"', ("2",)),
        (MIXED, '"7", cat', ("cat", "7")),
        (MIXED, "7", ("7",)),
        (ODD, '"all"', ("all",)),
        (ODD, '"own", 1', ("own",)),
        (ODD, '"bird, caged", tomato', ("bird, caged", "tomato")),
        (ODD, "bird, wild", ("bird, wild",)),
        (ODD, 'the "owl"', ('the "owl"',)),
        (ODD, r'"the \"owl\""', ('the "owl"',)),
        (ODD, "0-2", ("0-2",)),
        (ODD, "e\u0301te\u0301", ("été",)),
        (ODD, '" b ", Tomato', (" b ", "Tomato")),
    ],
)
def test_what_classes_mean(names: tuple[str, ...], text: str, expected: tuple[str, ...]) -> None:
    assert tuple(names[i] for i in parse_classes(text, names, "key")) == expected


@pytest.mark.parametrize(
    ("names", "text", "message"),
    [
        (ANIMALS, "bird", "'bird' is neither a number, a range nor one of cat, dog, big-cat, ship"),
        (ANIMALS, "2-4", "there are 4 classes, 0-3"),
        (ANIMALS, "4", "there are 4 classes, 0-3"),
        (ANIMALS, "3-1", "the range '3-1' is empty; write 1-3"),
        (ANIMALS, "0-99999999999999999999", "there are 4 classes, 0-3"),
        (ANIMALS, "0-9999999999", "there are 4 classes, 0-3"),
        (ANIMALS, "9" * 5000, "there are 4 classes, 0-3"),
        (ANIMALS, "-1", "'-1' is neither"),
        (ANIMALS, "²", "'²' is neither"),
        (ANIMALS, "٣", "'٣' is neither"),
        (ANIMALS, "cat,,dog", "a name is missing beside a comma"),
        (ANIMALS, "cat,", "a name is missing beside a comma"),
        (ANIMALS, '"cat, dog', "\"cat' is not a name in double quotes"),
        (ANIMALS, '"cat" dog', "is not a name in double quotes"),
        (ANIMALS, '"all"', "'all' is neither"),
        (FROM_ONE, "0", "there are 5 classes, 1-10, and none named 0"),
        (FROM_ONE, "1-5", "there are 5 classes, 1-10, and none named 5"),
        (("1", "01", "2"), "1-2", "several classes have the same number"),
        (MIXED, "2", "'2' is a class's name and another's number; write the name in double quotes"),
        (("a", "b", "a, b"), "a, b", "is one class and several"),
        (tuple(f"class {i}" for i in range(1000)), "Class 77o", "of the 1000 classes; did you mean class 77"),
        (tuple(f"class {i}" for i in range(1000)), "zebra", "of the 1000 classes; they begin with class 0"),
    ],
)
def test_classes_that_are_not_there(names: tuple[str, ...], text: str, message: str) -> None:
    with pytest.raises(BrickyardError, match=r"^zoo\.x\.classes = .*" + message):
        parse_classes(text, names, "zoo.x.classes")


def test_whatever_is_written_is_classes_or_one_line() -> None:
    generator, refused = random.Random(0), []
    for names in (ANIMALS, FROM_ONE, SCATTERED, MIXED, ODD):
        words = [*names, *'0123456789,,,--""', "\\", " ", "\n", "all", "999999999999", "\u0301", "\ud800"]
        for _ in range(400):
            text = "".join(generator.choices(words, k=generator.randrange(8)))
            try:
                found = parse_classes(text, names, "key")
            except BrickyardError as error:
                refused.append(str(error))
            else:
                assert found == sorted(set(found) & set(range(len(names)))) != []
    assert not any("\n" in line for line in refused)
    assert 200 < len(refused) < 1900


def test_every_name_can_be_written_in_double_quotes() -> None:
    generator = random.Random(0)
    for _ in range(400):
        letters = [*'ab01,-"\\\n\t é冬', "all"]
        names = sorted({"".join(generator.choices(letters, k=generator.randrange(1, 5))) for _ in range(6)})
        for escaped in (True, False):
            wanted = [i for i in range(len(names)) if generator.random() < 0.5] or [0]
            text = ", ".join(json.dumps(names[i], ensure_ascii=escaped) for i in wanted)
            assert parse_classes(text, names, "key") == wanted, (text, names)


def test_no_classes() -> None:
    with pytest.raises(BrickyardError, match=r"^zoo\.x\.classes is empty; name at least one class"):
        parse_classes(" ", ANIMALS, "zoo.x.classes")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from('0123456789-," '), max_size=30), st.booleans())
def test_any_text_is_classes_or_one_line(text: str, numbered: bool) -> None:
    names = [str(i) for i in range(3, 9)] if numbered else ["cat", "bird, caged", "Dog", "a-b", "all", "7"]
    line, found = "zoo.models.x.classes", list[int]()
    try:
        found = parse_classes(text, names, "zoo.models.x.classes")
    except BrickyardError as error:
        line = str(error)
    assert "\n" not in line
    assert "zoo.models.x.classes" in line
    assert found == sorted(set(found))
    assert set(found) <= set(range(len(names)))
