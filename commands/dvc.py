"""DVC, in this process: python -m commands.dvc ARGUMENTS…; it reads what has changed, and writes of dvc.lock likewise.

DVC itself reads params.yaml eight times a stage. It reads all of dvc.lock down to the comments, and writes it anew in
place, whenever a stage has run: half a second a stage with 40 stages, more with each more of them. Here a file that is
as it was is not read again, nor the entry of a stage in dvc.lock, and that is written whole or not at all.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from lib.base import files

HEAD = "schema: '2.0'\nstages:\n"
WAIT = 0.1  # of the half a second after which DVC looks again whether another one has left the folder, which takes less
_STAGE = re.compile(r"^  ([\w@-]+):\n", re.MULTILINE)


class Stages(dict[str, Any]):
    """The stages of a dvc.lock, as much of a dict as DVC needs to put one there: each is read when it is asked for.

    texts: what stands there for each stage, in order.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self.texts = dict(texts)

    def get(self, name: str, default: Any = None) -> Any:
        """What DVC knows of a stage."""
        from dvc.utils.serialize import loads_yaml

        return loads_yaml(self.texts[name])[name] if name in self.texts else default

    def update(self, stages: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Puts stages in the place that they have, or behind all others."""
        from dvc.utils.serialize import dumps_yaml

        for name, known in stages.items():
            self.texts[name] = dumps_yaml({"stages": {name: known}}).removeprefix("stages:\n")


def main(arguments: list[str]) -> int:
    """What the program `dvc` does; its exit code."""
    from dvc import dvcfile, lock
    from dvc.cli import main as dvc
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    dvcfile.modify_yaml = _quickly(dvcfile.modify_yaml)
    strictyaml.parse_yaml = _yaml.parse_yaml = once(_yaml.parse_yaml)
    if "--wait-for-lock" in arguments:
        lock.DEFAULT_TIMEOUT = WAIT * lock.DEFAULT_TIMEOUT
    return dvc(arguments)


def _quickly(whole: Any) -> Any:
    """DVC's own way to change a YAML file, but for a dvc.lock as it writes them."""

    @contextmanager
    def modify(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
        file = Path(path)
        texts = parts(file.read_text(encoding="utf-8")) if file.name == "dvc.lock" and file.is_file() else None
        if texts is None:
            with whole(path, fs=fs) as document:
                yield document
            return
        stages = Stages(texts)
        yield {"schema": "2.0", "stages": stages}
        files.write(file, (HEAD + "".join(stages.texts.values())).encode())

    return modify


def once(whole: Any) -> Any:
    """DVC's own way to read YAML, each text once; of a dvc.lock as DVC writes them, the text of each stage."""

    @cache
    def read(text: str, path: str) -> Any:
        return whole(text, path)

    def parse(text: str, path: str, typ: str = "safe") -> Any:
        if typ != "safe":
            return whole(text, path, typ)
        from dvc.utils.serialize import YAMLFileCorruptedError

        texts = parts(text) if Path(path).name == "dvc.lock" else None
        if texts is None:
            return deepcopy(read(text, path))
        try:
            found = [read(one, path) for one in texts.values()]
        except YAMLFileCorruptedError:  # of which all of it tells more
            return whole(text, path)
        return {"schema": "2.0", "stages": deepcopy({name: known for one in found for name, known in one.items()})}

    return parse


def parts(lock: str) -> dict[str, str] | None:
    """The text of each stage; None for what DVC has not written so."""
    names = list(_STAGE.finditer(lock))
    if not names or lock[: names[0].start()] != HEAD:
        return None
    ends = [name.start() for name in names[1:]] + [len(lock)]
    found = {name[1]: lock[name.start() : end] for name, end in zip(names, ends, strict=True)}
    right = all(line.startswith("   ") for text in found.values() for line in text.splitlines()[1:])
    return found if right and len(found) == len(names) and lock.endswith("\n") else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
