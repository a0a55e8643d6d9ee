"""Classifies a folder of images with any network that the pipeline made: python -m stages.predict NETWORK FOLDER.

NETWORK is a folder (artifacts/zoo/<model>, artifacts/finetune/r1, …). A line an image: file, class, percent,
with tabs between; a name that would break the line is quoted as in JSON.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.dery.assembly import network
from lib.images.picture import shown
from lib.mda.components import components
from lib.mda.lego import lego
from lib.network import files, pictures
from lib.zoo import networks as zoo
from lib.zoo.networks import Input
from stages import in_one_line


def main(trained: Path, folder: Path, trust: bool = False) -> None:
    """Prints the most probable class of every image below `folder`; names what cannot be read, and fails in the end.

    trust: see `open_network`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding does not

    def tell(error: BrickyardError) -> None:
        print(f"predict: {error}", file=sys.stderr)

    for file, name, percent in pictures.classified(folder, *open_network(trained, trust), tell):
        print(f"{shown(file)}\t{shown(name)}\t{percent:.1f}")


def open_network(folder: Path, trust: bool = False) -> tuple[nn.Module, Input, tuple[str, ...]]:
    """Any network of the pipeline, what it expects and its class names; trust: to run whatever code it names."""
    if (folder / "card.json").is_file():
        source, card = zoo.load(folder, trust)
        return source, card.input, card.classes
    stored = artifacts.read_json(folder / "recipe.json")
    kind = stored.get("kind") if isinstance(stored, dict) else None
    if kind == "reassembled":
        made = network.load(folder, trust)
        return made, made.recipe.input, made.recipe.classes
    kinds: dict[str, Any] = {"component": components.Recipe, "lego": lego.Recipe}
    if not isinstance(kind, str) or kind not in kinds:
        raise BrickyardError(f"{folder}/recipe.json: kind {repr(kind)[:80]}; expected reassembled, {', '.join(kinds)}")
    model, recipe = files.load(folder, kinds[kind], trust)
    return model, recipe.input, recipe.classes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Classifies a folder of images.")
    parser.add_argument("network", type=Path, help="a folder with a network: artifacts/finetune/r1, artifacts/zoo/…")
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument(
        "--trust", action="store_true", help="run the code that the network names, wherever it stands; else refused"
    )
    given = parser.parse_args()
    with in_one_line("predict"):
        main(given.network, given.folder, given.trust)
