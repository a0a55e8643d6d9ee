"""Many candidates put together, each beginning and each head fitted once and found again afterwards."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from ...base import artifacts, memo
from ...base.memo import Memo
from ...network.blocks import Block, Pick
from ...params.assembly import Treatment
from .edges import as_tensors
from .fronts import fingerprint
from .material import Bricks
from .reassembly import Made, Prefix, begin, blocks_of, extend, finish, fitted, known_edge, refits_head


class Workshop:
    """Puts candidates together as `reassemble` does; what several begin with is fitted once. Networks that it gives may
    have modules in common: they are to be looked at, measured and saved, not trained.

    memory: bytes of weights that may be in memory; what was not asked for the longest is forgotten, and fitted again.
    kept: what was fitted before, for other budgets as well: found there again.
    """

    def __init__(self, bricks: Bricks, memory: int, kept: Memo | None = None) -> None:
        self.bricks, self.memory, self.kept = bricks, memory, kept or Memo()
        self._prefixes: dict[tuple[Treatment, tuple[Block, ...]], Prefix] = {}
        self._finished: dict[tuple[Pick, Treatment], Made] = {}

    def reassemble(self, pick: Pick, treatment: Treatment) -> Made:
        """A candidate's network and recipe."""
        if len(pick.runs()) == 1:
            treatment = "none"
        elif not self._keeps_head(pick):  # a new one is fitted to the labels alone
            treatment = blocks_of(treatment)
        wanted = pick, treatment
        made = self._finished.pop(wanted, None) or self._finish(*wanted)
        self._finished[wanted] = made
        while len(self._finished) > 1 and self._bytes() > self.memory:
            del self._finished[next(iter(self._finished))]
            kept = {
                (blocks_of(how) if length > 1 else "none", one.runs()[:length])
                for one, how in self._finished
                for length in range(1, len(one.runs()) + 1)
            }
            self._prefixes = {key: prefix for key, prefix in self._prefixes.items() if key in kept}
        return made

    def _finish(self, pick: Pick, treatment: Treatment) -> Made:
        runs = pick.runs()
        prefix = self._prefix(runs, blocks_of(treatment))
        own = self._keeps_head(pick)
        if own and (len(runs) == 1 or not refits_head(treatment)):
            return finish(self.bricks, prefix, treatment)
        settings = [] if own else [self.bricks.head, self.bricks.head_shrinkage, _images(self.bricks, prefix.first)]
        key = self._key(runs, treatment, "head", settings)
        if (found := self.kept.get(key)) is not None:
            return finish(self.bricks, prefix, treatment, found)
        made = finish(self.bricks, prefix, treatment)
        self.kept.put(key, made[0].heads[0].state_dict())
        return made

    def _keeps_head(self, pick: Pick) -> bool:
        return self.bricks.keeps_head(self.bricks.place(pick.networks[-1]))

    def _prefix(self, runs: tuple[Block, ...], treatment: Treatment) -> Prefix:
        if len(runs) == 1:
            treatment = "none"
        wanted = treatment, runs
        if wanted not in self._prefixes:
            if len(runs) == 1:
                self._prefixes[wanted] = begin(self.bricks, runs[0])
            else:
                before, key = self._prefix(runs[:-1], treatment), self._key(runs, treatment, "prefix", [])
                found = self.kept.get(key)
                prefix = extend(self.bricks, before, runs[-1], treatment, found)
                if found is None:
                    self.kept.put(key, fitted(prefix))
                self._prefixes[wanted] = prefix
        return self._prefixes[wanted]

    def _key(self, runs: tuple[Block, ...], treatment: Treatment, what: str, settings: list[Any]) -> str:
        """Of what is fitted for some runs of blocks: the networks, the images, and how."""
        bricks = self.bricks
        networks = [fingerprint(bricks, bricks.place(run.network)) for run in runs]
        networks += [bricks.narrow[run.network, run.width].checksum for run in runs if run.narrow]
        how = [bricks.joining.model_dump(), bricks.pull, bricks.seed, list(bricks.classes), self._first_edge(runs)]
        return memo.key(Path(__file__), what, networks, [run.to_dict() for run in runs], treatment, how, settings)

    def _first_edge(self, runs: tuple[Block, ...]) -> str | None:
        """A digest of the stitch behind the first run, if it was fitted before: it may be older than the settings."""
        if len(runs) == 1 or runs[1].continues(runs[0]):
            return None
        edge = known_edge(self.bricks, runs[0], self.bricks.place(runs[1].network), runs[1].start)
        return None if edge is None else artifacts.tensor_checksum(as_tensors(edge))

    def _bytes(self) -> int:
        """Of the weights of all that is kept, each once."""
        modules = [part for prefix in self._prefixes.values() for part in prefix.parts]
        modules += [head for network, _ in self._finished.values() for head in network.heads]
        tensors = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}
        return sum(t.nbytes for t in tensors.values())


def _images(bricks: Bricks, m: int) -> list[Any]:
    """The labelled images of a new head."""
    images = bricks.labelled[m]
    return [images.images.checksum, sha256(images.index.tobytes()).hexdigest(), images.batch_size]
