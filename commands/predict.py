"""Classifies a folder of images with any network that the pipeline made: python -m commands.predict NETWORK FOLDER.

NETWORK is a folder (artifacts/zoo/<model>, artifacts/finetune/r1, …). A line an image: file, class, percent,
with tabs between; a name that would break the line is quoted as in JSON.
"""

import argparse
import io
import sys
from pathlib import Path

from commands import in_one_line
from lib.base.errors import BrickyardError
from lib.images.picture import shown
from lib.network import pictures
from lib.network.load import load


def main(trained: Path, folder: Path, trust: bool = False) -> None:
    """Prints the most probable class of every image below `folder`; names what cannot be read, and fails in the end.

    trust: to run whatever code the network names.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding does not

    def tell(error: BrickyardError) -> None:
        print(f"predict: {error}", file=sys.stderr)

    network, recipe = load(trained, trust)
    for file, name, percent in pictures.classified(folder, network, recipe.input, recipe.classes, tell):
        print(f"{shown(file)}\t{shown(name)}\t{percent:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.predict", description="Classifies a folder of images.")
    parser.add_argument("network", type=Path, help="a folder with a network: artifacts/finetune/r1, artifacts/zoo/…")
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument(
        "--trust", action="store_true", help="run the code that the network names, wherever it stands; else refused"
    )
    given = parser.parse_args()
    with in_one_line("predict"):
        main(given.network, given.folder, given.trust)
