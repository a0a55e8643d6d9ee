"""Puts a preset in place as params.yaml: python -m commands.preset [NAME] [--random] [--dry] [--force].

Alone it lists the presets: the files of presets/, yours among them. What is changed is shown; the params.yaml before
stays as params.yaml.bak, and edits that are in no commit are not replaced unasked.
"""

import argparse
import difflib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from commands import in_one_line
from lib.base import files
from lib.base.errors import BrickyardError
from lib.params import document
from lib.params.base import PARAMS
from lib.params.parse import NotYAMLError
from lib.params.sections import SECTIONS

PRESETS = Path("presets")
TUNINGS = (("finetune", "frozen"), ("finetune", "full"), ("components", "tuning"), ("lego", "tuning"))
BEGUN = "# Random weights, for a dry run; {} puts the others back\n"


def main(name: str | None, random: bool = False, dry: bool = False, force: bool = False) -> None:
    """Lists the presets, or puts one in place and says what changes.

    random: with random weights and one epoch of every tuning; dry: changes nothing; force: edits are replaced, too.
    Raises BrickyardError for a preset that is not there or not right, and for edits that are nowhere else.
    """
    there = {file.stem: file.read_bytes() for file in sorted(PRESETS.glob("*.yaml"))}
    if not there:
        raise BrickyardError(f"{PRESETS} not found: run from the root of the repository")
    before = PARAMS.read_bytes() if PARAMS.exists() else None
    if name is None:
        print("\n".join(_listed(there, before)))
        return
    if name not in there:
        raise BrickyardError(f"there is no preset {name!r}; there are {', '.join(there)}")
    _check(there[name], f"{PRESETS / name}.yaml")
    wanted = begun(there[name], name) if random else there[name]
    _check(wanted, f"{PRESETS / name}.yaml with random weights")
    if wanted == before:
        print(f"{PARAMS} is this preset already")
        return
    if not dry and not force and before is not None and not _is_elsewhere(before, there):
        raise BrickyardError(
            f"{PARAMS} has edits that are in no commit: commit it, or give --force, which keeps it as {_free(before)}"
        )
    print("".join(_changes(before or b"", wanted)), end="")
    if dry:
        return
    kept = None if before is None else _free(before)
    if kept is not None and before is not None:
        files.write(kept, before)
    files.write(PARAMS, wanted)
    print(f"{PARAMS} is preset {name} now{'' if kept is None else f'; what it was before is in {kept}'}")
    print("next: ./run python -m commands.check")


def begun(content: bytes, name: str = "") -> bytes:
    """A params.yaml for a dry run: `weights: random` in place of trained and pretrained ones, one epoch of every
    tuning. All else stays as it is, byte for byte.

    Networks with labels of their own get those of the data set, which random weights need.
    """
    text = content.decode()
    root = YAML(typ="safe", pure=True).compose(text)
    edits: dict[tuple[int, int], str] = {}

    def put(node: Node, value: str) -> None:
        edits[node.start_mark.index, node.end_mark.index] = value

    models = _at(root, "zoo", "models")
    for _, entry in models.value if isinstance(models, MappingNode) else []:
        weights, classes = _at(entry, "weights"), _at(entry, "classes")
        if isinstance(weights, ScalarNode) and weights.value in ("train", "pretrained"):
            put(weights, "random")
            if isinstance(classes, ScalarNode) and classes.value == "own":
                put(classes, "all")
    for way in TUNINGS:
        epochs = _at(root, *way, "epochs")
        if isinstance(epochs, ScalarNode) and epochs.value != "0":
            put(epochs, "1")
    for (start, end), value in sorted(edits.items(), reverse=True):
        text = text[:start] + value + text[end:]
    first, newline, rest = text.partition("\n")
    return f"{first}{newline}{BEGUN.format(f'python -m commands.preset {name}')}{rest}".encode()


def _at(node: Node | None, *way: str) -> Node | None:
    """What stands at these keys, merged ones too; None where there is nothing."""
    for key in way:
        pairs = node.value if isinstance(node, MappingNode) else []
        own = [value for name, value in pairs if name.value == key]
        merged = [_at(value, key) for name, value in pairs if name.value == "<<"]
        node = next((found for found in (*own, *merged) if found is not None), None)
    return node


def _listed(there: dict[str, bytes], before: bytes | None) -> Iterator[str]:
    """A line for each preset, what its first comment says; a star at the one in place."""
    width = max(map(len, there))
    for name, content in there.items():
        first = content.decode(errors="replace").split("\n", 1)[0]
        about = first.lstrip("# ").removeprefix(f"{name}: ") if first.startswith("#") else ""
        mark = "*" if before in (content, _begun(content, name)) else " "
        yield f"{mark} {name:{width}}  {about}".rstrip()
    yield "./run python -m commands.preset NAME puts one in place; --random: with random weights, for a dry run"


def _begun(content: bytes, name: str) -> bytes | None:
    """As `begun`; None of what is no YAML."""
    try:
        return begun(content, name)
    except Exception:  # whatever a file raises that nobody has asked for
        return None


def _check(content: bytes, who: str) -> None:
    """Raises BrickyardError where stages would refuse it."""
    try:
        found = document.read(content)
    except NotYAMLError as error:
        raise BrickyardError(f"{who} {error}") from None
    missing = [f"{name} is missing" for name in SECTIONS if name not in found.values]
    if lines := [*found.mistakes, *missing]:
        raise BrickyardError("; ".join(f"{who}: {line}" for line in lines))


def _is_elsewhere(before: bytes, there: dict[str, bytes]) -> bool:
    """Whether params.yaml, as it is, is a preset or in any commit."""
    if any(before in (content, _begun(content, name)) for name, content in there.items()):
        return True
    known = _git("hash-object", str(PARAMS))
    return bool(known and _git("log", "--all", "-m", "-1", "--format=%h", f"--find-object={known}", "--", str(PARAMS)))


def _git(*arguments: str) -> str:
    """What git says; nothing where it fails, or is not there."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _free(before: bytes) -> Path:
    """Where to keep the params.yaml before: a file that is not there yet, or has just this content."""
    number, path = 1, PARAMS.with_name(f"{PARAMS.name}.bak")
    while path.exists() and path.read_bytes() != before:
        number += 1
        path = PARAMS.with_name(f"{PARAMS.name}.bak{number}")
    return path


def _changes(before: bytes, after: bytes) -> Iterator[str]:
    """The unified difference."""
    one, other = (content.decode(errors="replace").splitlines(keepends=True) for content in (before, after))
    for line in difflib.unified_diff(one, other, str(PARAMS), "the preset"):
        yield line if line.endswith("\n") else f"{line}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.preset", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a preset; none: list them")
    parser.add_argument("--random", action="store_true", help="random weights, one epoch of tuning: for a dry run")
    parser.add_argument("--dry", action="store_true", help="say what would change and change nothing")
    parser.add_argument("--force", action="store_true", help="replace edits, too; they stay in params.yaml.bak")
    given = parser.parse_args()
    with in_one_line("preset"):
        main(given.name, given.random, given.dry, given.force)
