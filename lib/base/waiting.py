"""Batches of tensors that wait for the next pass over them: in memory as far as there is room, else in files."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from . import abreast, environment
from .errors import BrickyardError

PARTS = 8  # of BRICKYARD_MEMORY; one is the room of what waits in one place
FOLDER = Path(".scratch")  # where files wait, if it is there, else where temporary files are


class Waiting:
    """Batches in the order in which they were added, each some tensors by name; they come back as they were, where they
    were. What is over the room is written to files that vanish with this.

    expected: how many batches there will be, so that room on disk is looked for before anything is written.
    """

    def __init__(self, expected: int = 1, room: int | None = None) -> None:
        self._room = environment.memory() // PARTS if room is None else room
        self._expected, self._held, self._largest = expected, 0, 0
        self._batches = list[Mapping[str, torch.Tensor] | Path]()
        self._devices = list[Mapping[str, torch.device]]()
        self._folder: TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def width(self) -> int:
        """How many batches should be worked on at a time."""
        return abreast.width(next(iter(self._devices[0].values())), self._largest) if self._devices else 1

    def add(self, batch: Mapping[str, torch.Tensor]) -> None:
        """One batch more. Raises BrickyardError where files would not fit on the disk."""
        self._devices.append({name: tensor.device for name, tensor in batch.items()})
        size = sum(tensor.nbytes for tensor in batch.values())
        self._largest = max(self._largest, size)
        if self._held + size <= self._room:
            self._held += size
            self._batches.append({name: tensor.cpu() for name, tensor in batch.items()})
            return
        from safetensors.torch import save_file

        file = self._place(size * (self._expected - len(self._batches))) / f"{len(self._batches)}.safetensors"
        apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in batch.items()}
        save_file(apart, file)
        self._batches.append(file)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for i in range(len(self._batches)):
            yield self._read(i)

    def drained(self) -> Iterator[dict[str, torch.Tensor]]:
        """The same; each leaves its room as soon as it has been given."""
        for i in range(len(self._batches)):
            found, batch = self._read(i), self._batches[i]
            self._batches[i] = {}
            if isinstance(batch, Path):
                batch.unlink()
            else:
                self._held -= sum(tensor.nbytes for tensor in batch.values())
            del batch
            yield found
            del found
        self._batches, self._devices = [], []

    def _read(self, i: int) -> dict[str, torch.Tensor]:
        batch, devices = self._batches[i], self._devices[i]
        if isinstance(batch, Path):
            from safetensors.torch import load_file

            batch = load_file(batch)
        return {name: tensor.to(devices[name]) for name, tensor in batch.items()}

    def _place(self, wanted: int) -> Path:
        """The folder of the files; wanted: bytes that are still to come."""
        if self._folder is None:
            parent = FOLDER if FOLDER.is_dir() else None
            self._folder = TemporaryDirectory(prefix="waiting-", dir=parent)
            free = shutil.disk_usage(self._folder.name).free
            if wanted > free:
                needed, free = (f"{size / 2**30:.1f} GiB" for size in (wanted, free))
                raise BrickyardError(
                    f"activations that wait between two passes need {needed} of disk, where {free} are free: "
                    "make room, raise BRICKYARD_MEMORY, or lower edges.images"
                )
        return Path(self._folder.name)
