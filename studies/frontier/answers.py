"""What networks have answered, and which of them were chosen where, between the stages of this study."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lib.base import artifacts
from lib.dery.paths.tables import Kind

Learnt = Literal["scratch", "distilled", "again", "restacked"]  # what is there after tuning alone
Role = Literal["whole", "ensemble", "cut", "drawn", "ours", "stacked", "spare"] | Learnt
UNTRAINED, FROZEN, FULL = "untrained", "frozen", "full"  # treatments
RIVALS: tuple[Role, ...] = ("whole", "ensemble", "cut", "drawn", "scratch", "distilled")
STRONGER: tuple[Role, ...] = (*RIVALS, "stacked", "spare", "restacked")  # where what is ours is done to rivals, too
OURS: tuple[Role, ...] = (
    "whole",
    "ensemble",
    "cut",
    "stacked",
    "again",
)  # in our pool at any budget, beside what was chosen
STACKED: Mapping[Role, Role] = {  # what a network is in the comparison when its heads are fitted after it has learnt
    **{"whole": "stacked", "ensemble": "stacked", "cut": "stacked", "stacked": "stacked", "ours": "again"},
    **{"scratch": "restacked", "distilled": "restacked"},
}


@dataclass(frozen=True)
class Answered:
    """A network and the class that it answers for each image that is asked, uint8 [n].

    role: what it is in the comparison; one that is chosen by us and drawn, too, is drawn; a spare is a stacked rival
        that validation picks nowhere.
    cost: of each kind.
    way: of dividing the images, whose labels have fitted its heads; None where none have.
    chosen: by which ways of dividing the images, where it stands in the comparison for that alone; None: for any.
    crossed: whether for each of the images that have fitted it this is what others of them would have made it say.
    """

    name: str
    role: Role
    cost: Mapping[Kind, float]
    said: np.ndarray
    way: str | None = None
    crossed: bool = False
    chosen: tuple[str, ...] | None = None

    def stands(self, way: str) -> bool:
        """Whether it has a place among what the images choose from that are divided in one way."""
        return self.way in (None, way) and (self.chosen is None or way in self.chosen)

    @property
    def fitted(self) -> bool:
        """Whether what it says of images that choose is no measure of it."""
        return self.way is not None and not self.crossed


@dataclass(frozen=True)
class Round:
    """What was chosen within a budget: numbers of networks; drawn: by chance, and by the paper's search."""

    kind: Kind
    limit: float
    ours: int
    drawn: tuple[int, ...]


def choosers(rounds: Mapping[str, Sequence[Round]], i: int) -> tuple[str, ...]:
    """The ways of dividing the images by which network i is our choice in some rounds; rounds: by way."""
    return tuple(way for way, own in rounds.items() if any(one.ours == i for one in own))


@dataclass(frozen=True)
class Answers:
    """Networks by number, and by the way in which images are divided the rounds."""

    networks: Mapping[int, Answered]
    rounds: Mapping[str, Sequence[Round]]

    def save(self, folder: Path) -> None:
        """Writes answers.json and answers.safetensors."""
        told = {str(i): {**asdict(replace(one, said=np.empty(0))), "said": None} for i, one in self.networks.items()}
        rounds = {name: [asdict(one) for one in own] for name, own in self.rounds.items()}
        artifacts.write_json(folder / "answers.json", {"networks": told, "rounds": rounds})
        said = {str(i): torch.from_numpy(one.said.astype(np.uint8)) for i, one in self.networks.items()}
        artifacts.write_tensors(folder / "answers.safetensors", said)

    @classmethod
    def load(cls, folder: Path) -> "Answers":
        """The inverse of `save`."""
        stored = artifacts.read_json(folder / "answers.json")
        said = artifacts.read_tensors(folder / "answers.safetensors")
        networks = {
            int(i): Answered(**{**one, "said": said[i].numpy(), "chosen": one["chosen"] and tuple(one["chosen"])})
            for i, one in stored["networks"].items()
        }
        rounds = {
            name: [Round(**{**one, "drawn": tuple(one["drawn"])}) for one in own]
            for name, own in stored["rounds"].items()
        }
        return cls(networks, rounds)
