"""One group of networks, cut into blocks: its paths, what they cost and promise, and what has been measured of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np

from lib.base import artifacts
from lib.dery.paths.tables import Columns
from lib.params.assembly import Treatment
from lib.params.edges import Edges, Init


@dataclass(frozen=True)
class Setting:
    """What a stitch is, and what is done to what stands behind it, without training."""

    init: Init
    treatment: Treatment

    def joining(self, given: Edges) -> Edges:
        """As the params have it, but for the stitch."""
        return given.model_copy(update={"init": self.init})


SETTINGS = {
    "identity": Setting("identity", "none"),
    "random": Setting("random", "none"),
    "least_squares": Setting("least_squares", "none"),
    "recalibrated": Setting("least_squares", "statistics"),
    "head": Setting("least_squares", "head"),
    "layers": Setting("least_squares", "layers_and_head"),
}
CHANCE = ("identity", "random")  # settings that need no precision
START = "layers"  # the setting with which tuning begins
TRANSFORMER = "vit"
FILE = "group.json"


@dataclass(frozen=True)
class Worth:
    """What is known of a path before it is put together: params, macs; sums over its stitches of log R² and of log
    CKA; sum over its blocks of the similarity to their anchors.
    """

    params: int
    macs: int
    stitch_r2: float
    cka: float
    similarity: float


@dataclass(frozen=True)
class Group:
    """names: of the networks; cuts[m]: K+1 positions; fit_images: how many; worth: of the paths."""

    name: str
    names: tuple[str, ...]
    cuts: tuple[tuple[int, ...], ...]
    fit_images: int
    worth: Mapping[Columns, Worth]

    @property
    def sets(self) -> int:
        """K."""
        return len(self.cuts[0]) - 1

    @cached_property
    def hybrids(self) -> list[Columns]:
        """All paths of two networks at least, in order."""
        return [path for path in product(range(len(self.names)), repeat=self.sets) if len(set(path)) > 1]

    @property
    def sources(self) -> list[Columns]:
        """The unmodified networks."""
        return [(m,) * self.sets for m in range(len(self.names))]

    @cached_property
    def crossings(self) -> dict[str, list[Columns]]:
        """Hybrids of the transformer and one other network with one stitch, behind each of the inner cuts."""
        if TRANSFORMER not in self.names:
            return {}
        vit, sets = self.names.index(TRANSFORMER), self.sets
        others = [m for m in range(len(self.names)) if m != vit]
        return {
            "CNN front, ViT back": [(m,) * k + (vit,) * (sets - k) for m in others for k in range(1, sets)],
            "ViT front, CNN back": [(vit,) * k + (m,) * (sets - k) for m in others for k in range(1, sets)],
        }

    @property
    def measured(self) -> list[Columns]:
        """The hybrids that are put together: with a transformer the crossings, else all."""
        return [path for paths in self.crossings.values() for path in paths] or self.hybrids

    def title(self, path: Columns) -> str:
        """The networks that supply the blocks."""
        return " > ".join(self.names[m] for m in path) if len(set(path)) > 1 else self.names[path[0]]

    def score(self, path: Columns) -> float:
        """The label-free prediction by which hybrids are proposed."""
        return self.worth[path].stitch_r2

    def save(self, folder: Path) -> None:
        """Writes group.json."""
        worth = [{"path": list(path), **asdict(own)} for path, own in self.worth.items()]
        artifacts.write_json(folder / FILE, {**asdict(replace(self, worth={})), "worth": worth})

    @classmethod
    def load(cls, folder: Path) -> "Group":
        """The inverse of `save`."""
        stored = artifacts.read_json(folder / FILE)
        return cls(
            name=stored["name"],
            names=tuple(stored["names"]),
            cuts=tuple(map(tuple, stored["cuts"])),
            fit_images=stored["fit_images"],
            worth={tuple(row.pop("path")): Worth(**row) for row in stored["worth"]},
        )


def key(path: Columns) -> str:
    """A path as a name in files."""
    return "-".join(map(str, path))


@dataclass(frozen=True)
class Measured:
    """What has been measured of a group; untrained, tuned: the folders of those stages, None where nothing has been
    tuned; settings: those that are looked at.
    """

    group: Group
    untrained: Path
    tuned: Path | None
    settings: tuple[str, ...] = tuple(SETTINGS)

    @property
    def all_settings(self) -> tuple[str, ...]:
        """Those of the stitches, and frozen tuning where that has been measured."""
        return self.settings if self.tuned is None else (*self.settings, "frozen")

    def right(self, setting: str) -> dict[Columns, np.ndarray]:
        """Of hybrids and sources whether each is right on each test image, bool [n]; in a setting of the stitches, or
        after tuning: `frozen`, `full`.
        """
        return self._read(setting, "test")

    def few(self, setting: str) -> dict[Columns, float]:
        """Accuracy of the hybrids on the labelled train images of the ranking, in percent."""
        return accuracy({path: own for path, own in self._read(setting, "few").items() if len(set(path)) > 1})

    def predicted(self, setting: str) -> dict[str, dict[Columns, float]]:
        """What NASWOT and SynFlow say of the hybrids."""
        stored = artifacts.read_json(self._folder(setting) / "predicted.json")
        return {
            name: {path: float("-inf") if own[key(path)] is None else own[key(path)] for path in self.group.hybrids}
            for name, own in stored.items()
        }

    def _read(self, setting: str, images: str) -> dict[Columns, np.ndarray]:
        paths = [*self.group.measured, *self.group.sources]
        if setting in SETTINGS:
            return read_right(self._folder(setting), images, paths)
        assert self.tuned is not None
        found: dict[Columns, np.ndarray] = {}
        for m, name in enumerate(self.group.names):
            found |= read_right(self.tuned / name, setting, [path for path in paths if path[0] == m])
        return {path: found[path] for path in paths}

    def _folder(self, setting: str) -> Path:
        return self.untrained / f"{self.group.name}-{setting}"


def write_right(folder: Path, right: Mapping[str, Mapping[Columns, np.ndarray]]) -> None:
    """Writes whether networks are right on each image: right[images][path], bool [n]."""
    import torch

    tensors = {
        f"{kind} {key(path)}": torch.from_numpy(own) for kind, paths in right.items() for path, own in paths.items()
    }
    artifacts.write_tensors(folder / "right.safetensors", tensors)


def read_right(folder: Path, images: str, paths: list[Columns]) -> dict[Columns, np.ndarray]:
    """What `write_right` wrote of these images and paths."""
    stored = artifacts.read_tensors(folder / "right.safetensors")
    return {path: stored[f"{images} {key(path)}"].numpy() for path in paths}


def accuracy(right: Mapping[Columns, np.ndarray]) -> dict[Columns, float]:
    """In percent."""
    return {path: 100 * float(own.mean()) for path, own in right.items()}
