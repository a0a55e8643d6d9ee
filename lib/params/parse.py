"""From the text of `params.yaml` to plain values: YAML 1.2, as DVC reads it, of bounded size, every key once."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_BYTES = 2**20
MOST_VALUES = 100_000  # anchors unfolded
DEEPEST = 40  # levels
NAMES = "a name begins with a letter and has letters, digits, _ and - only"


class NotYAMLError(Exception):
    """The text cannot be read at all; one line says why."""


@dataclass(frozen=True)
class Parsed:
    """The document without the keys that are no names or there twice, and a line for each of these."""

    document: dict[str, Any]
    mistakes: tuple[str, ...]


def parse(content: bytes) -> Parsed:
    """What the file's `content` says. Raises NotYAMLError."""
    if len(content) > MOST_BYTES:
        raise NotYAMLError(f"has {len(content)} bytes; at most {MOST_BYTES} are read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotYAMLError(f"is not text in UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
    yaml = YAML(typ="safe", pure=True)
    mistakes: list[str] = []
    try:
        root: Node | None = yaml.compose(text)
        if root is None:
            raise NotYAMLError("is empty")
        _count(root, {}, 0)
        _clean(root, "", mistakes)
        document = yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise NotYAMLError(f"is not valid YAML: {where}{error.problem or error.context}") from None
    except RecursionError:
        raise NotYAMLError(f"is nested deeper than {DEEPEST} levels") from None
    except NotYAMLError:
        raise
    except Exception as error:  # whatever ruamel raises on numbers and dates that are none
        raise NotYAMLError(f"is not valid YAML: {type(error).__name__}: {error}") from None
    if not isinstance(document, dict):
        raise NotYAMLError("should be a mapping of sections: run, dataset, zoo, ...")
    return Parsed(document, tuple(mistakes))


def path(*parts: Any) -> str:
    """The dotted key of a value; a part that is no plain word stands in quotes."""
    return ".".join(str(part) if str(part).isprintable() else repr(str(part)) for part in parts if part != "")


def _count(node: Node, known: dict[int, int | None], depth: int) -> int:
    """How many values `node` unfolds to. Raises NotYAMLError beyond a limit, and for a value that holds itself."""
    if depth > DEEPEST:
        raise NotYAMLError(f"is nested deeper than {DEEPEST} levels")
    if id(node) not in known:
        known[id(node)] = None
        children: list[Node] = []
        if isinstance(node, SequenceNode):
            children = list(node.value)
        elif isinstance(node, MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    count = known[id(node)]
    if count is None:
        raise NotYAMLError(f"line {node.start_mark.line + 1}: an anchor holds itself")
    if count > MOST_VALUES:
        raise NotYAMLError(f"unfolds to more than {MOST_VALUES} values")
    return count


def _clean(node: Node, where: str, mistakes: list[str]) -> None:
    """Takes out of `node` the keys that are no text or there twice, and says so."""
    if isinstance(node, SequenceNode):
        for i, child in enumerate(node.value):
            _clean(child, path(where, i), mistakes)
    if not isinstance(node, MappingNode):
        return
    lines: dict[str, int] = {}
    kept = []
    for key, value in node.value:
        kind, line = str(key.tag).rpartition(":")[2], key.start_mark.line + 1
        if kind == "merge":
            kept.append((key, value))
            for child in value.value if isinstance(value, SequenceNode) else [value]:
                _clean(child, where, mistakes)
        elif not isinstance(key, ScalarNode):
            mistakes.append(f"{path(where, f'line {line}')}: a list or mapping cannot be a key; {NAMES}")
        elif kind != "str":
            read = {"bool": "true or false", "null": "null"}.get(kind, "a number" if kind in ("int", "float") else kind)
            mistakes.append(f"{path(where, key.value or 'null')}: YAML reads this key as {read}; {NAMES}")
        elif key.value in lines:
            mistakes.append(f"{path(where, key.value)}: is there twice, in lines {lines[key.value]} and {line}")
        else:
            lines[key.value] = line
            kept.append((key, value))
            _clean(value, path(where, key.value), mistakes)
    node.value = kept
