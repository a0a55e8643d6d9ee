"""Reassembled networks on disk, by everything that they depend on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cifar10.tree import Network
from lib.base.code import digest
from lib.dery.assembly import reassembly
from lib.dery.assembly.material import Bricks
from lib.dery.paths.problem import Columns
from lib.network import files
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled

CODE = digest([Path(reassembly.__file__)])  # of what puts networks together


def kept(
    folder: Path, bricks: Bricks, paths: Sequence[Columns], make: Callable[[Sequence[Columns]], dict[Columns, Network]]
) -> dict[Columns, Network]:
    """The networks of `paths` as `folder` has them; those that it lacks are made and stored first."""
    common = _described(bricks)
    folders = {path: folder / hashlib.sha256(f"{common} {path}".encode()).hexdigest()[:32] for path in paths}
    for path, made in make([path for path in paths if not (folders[path] / "recipe.json").exists()]).items():
        files.save(folders[path], *made)
    return {path: _opened(folders[path]) for path in paths}


def _opened(folder: Path) -> Network:
    network, recipe = files.load_as(Reassembled, folder, trust=True)
    assert isinstance(network, ReassembledNetwork)
    return network, recipe


def _described(bricks: Bricks) -> str:
    """Sources, cuts, images and settings as text."""
    images = [
        [loader.images.checksum, hashlib.sha256(loader.index.tobytes()).hexdigest(), loader.batch_size]
        for loader in (*bricks.fit, *bricks.labelled)
    ]
    settings = [repr(bricks.stitching), bricks.ridge, bricks.head, bricks.head_shrinkage, bricks.classes, bricks.seed]
    return json.dumps([CODE, [card.to_dict() for card in bricks.cards], bricks.cuts, images, settings])
