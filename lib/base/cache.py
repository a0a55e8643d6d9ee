"""DVC's cache and what lies below artifacts/, compared with dvc.lock by content: DVC trusts its read-only objects."""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from . import artifacts, files
from .errors import BrickyardError

READERS: dict[str, Callable[[Path], object]] = {
    ".json": artifacts.read_json,
    ".csv": artifacts.read_csv,
    ".safetensors": artifacts.read_tensors,
    ".sha256": lambda file: artifacts.read_csv(file.with_suffix("")),
}
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def below(path: str) -> str:
    """A path that stays below its folder. Raises ValueError for another."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or not parts.parts or ".." in parts.parts:
        raise ValueError(f"{path!r} is not below its folder")
    return path


@dataclass(frozen=True)
class Out:
    """What a stage left; md5: of the file, or of the list of a folder's files, then ending with `.dir`."""

    stage: str
    path: Path
    md5: str


class Entry(BaseModel):
    """A file in the list of a folder's files."""

    relpath: Annotated[str, AfterValidator(below)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True)
class Damage:
    """What is wrong with one output.

    objects: hashes of those whose content has another one.
    files: of the workspace, neither what dvc.lock says nor whole by themselves.
    others: those that are not what dvc.lock says, but whole.
    """

    out: Out
    objects: tuple[str, ...]
    files: tuple[Path, ...]
    others: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.objects or self.files)


def outs(lock: Path) -> list[Out]:
    """The outputs that a dvc.lock lists. Raises BrickyardError where it cannot be read.

    Metrics are among them: DVC keeps copies, from which it restores them.
    """
    try:
        stages = YAML(typ="safe", pure=True).load(lock)["stages"]
        listed = [(name, out) for name, stage in stages.items() for out in stage.get("outs", [])]
        deps = [dep for stage in stages.values() for dep in stage.get("deps", [])]
        for path, md5 in [(one["path"], one.get("md5", "")) for one in (*deps, *(out for _, out in listed))]:
            if not isinstance(path, str) or (md5 and not MD5.fullmatch(md5)):
                raise ValueError(path)
        found = [Out(name, Path(out["path"]), out["md5"]) for name, out in listed if out.get("md5")]
    except FileNotFoundError:
        raise BrickyardError(f"{lock} not found: run from the root of the repository, after dvc repro") from None
    except (YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise BrickyardError(
            f"{lock} cannot be read, as after a merge with conflicts: remove it and dvc repro; what has been made "
            "before is taken from the cache"
        ) from None
    return [out for out in found if not out.path.is_absolute() and ".." not in out.path.parts]


@dataclass(frozen=True)
class Cache:
    """The objects of a DVC cache by their MD5, in `folder` (`files/md5` of what `dvc cache dir` prints), and the
    workspace at `root`. Every object is read once.
    """

    folder: Path
    root: Path
    _sound: dict[str, bool] = field(default_factory=dict)

    def file(self, md5: str) -> Path:
        """The file in which an object of the cache lies."""
        return self.folder / md5[:2] / md5[2:]

    def sound(self, md5: str) -> bool:
        """Whether an object is there and its content has this hash."""
        if md5 not in self._sound:
            file = self.file(md5)
            self._sound[md5] = file.is_file() and md5_of(file) == md5.removesuffix(".dir")
        return self._sound[md5]

    def damaged(self, md5: str) -> bool:
        """Whether an object is there and its content has another hash."""
        return not self.sound(md5) and self.file(md5).is_file()

    def everything(self) -> list[str]:
        """The hashes of all objects."""
        names = (file.parent.name + file.name for file in sorted(self.folder.glob("??/*")))
        return [name for name in names if MD5.fullmatch(name)]

    def hashes(self, out: Out) -> dict[str, str]:
        """The hashes of an output's objects by path below the root; where a folder's list is not sound, the list's.

        A list that names anything but files below its folder is damaged, whatever its hash.
        """
        path = str(out.path)
        if out.md5.endswith(".dir") and self.sound(out.md5):
            try:
                listed = TypeAdapter(list[Entry]).validate_json(self.file(out.md5).read_bytes())
            except ValidationError:
                self._sound[out.md5] = False
            else:
                return {path: out.md5, **{f"{path}/{entry.relpath}": entry.md5 for entry in listed}}
        return {path: out.md5}

    def damage(self, out: Out) -> Damage:
        """What is wrong with an output: its objects and its files in the workspace, content by content."""
        hashes = self.hashes(out)
        known = {self.root / path: md5 for path, md5 in hashes.items() if not md5.endswith(".dir")}
        if not known:  # the list is lost
            known = dict.fromkeys(files_below(self.root / out.path), "")
        if out.path.parts[0] != "artifacts":  # what people may edit
            known = {}
        wrong = [file for file, md5 in known.items() if file.is_file() and md5_of(file) != md5]
        whole = [file for file in wrong if self._whole(file, unknown=not known[file])]
        return Damage(
            out,
            objects=tuple(md5 for md5 in dict.fromkeys(hashes.values()) if self.damaged(md5)),
            files=tuple(file for file in wrong if file not in whole),
            others=tuple(file for file in whole if known[file]),
        )

    def _whole(self, file: Path, unknown: bool) -> bool:
        """Whether a file is another one that the cache has, or carries a checksum of its own that holds."""
        if self.sound(md5_of(file)):
            return True
        try:
            READERS[file.suffix](file)
        except KeyError:
            return unknown
        except BrickyardError:
            return False
        return True

    def put_back(self, out: Out) -> None:
        """Makes objects of an output that are not there from what lies sound in the workspace.

        What has been read before does not count any more: ask a new `Cache`.
        """
        folder = self.root / out.path
        if out.md5.endswith(".dir") and not self.file(out.md5).exists() and folder.is_dir():
            made = sorted((str(file.relative_to(folder)), md5_of(file)) for file in files_below(folder))
            listed = json.dumps([{"md5": md5, "relpath": name} for name, md5 in made]).encode()  # as DVC writes it
            if hashlib.md5(listed).hexdigest() == out.md5.removesuffix(".dir"):
                self._put(out.md5, io.BytesIO(listed))
                self._sound.pop(out.md5, None)
        for path, md5 in self.hashes(out).items():
            file = self.root / path
            if not self.file(md5).exists() and file.is_file() and md5_of(file) == md5:
                with file.open("rb") as source:
                    self._put(md5, source)

    def _put(self, md5: str, source: BinaryIO) -> None:
        with files.written(self.file(md5)) as file:
            shutil.copyfileobj(source, file)
        self.file(md5).chmod(0o444)  # as DVC has it

    def missing(self, out: Out) -> list[Path]:
        """The files of an output below artifacts/ that are not in the workspace, as far as they are known; else it."""
        if out.path.parts[0] != "artifacts":  # metrics, of which DVC keeps copies
            return []
        known = self.hashes(out)
        files = [path for path, md5 in known.items() if not md5.endswith(".dir")] or [str(out.path)]
        return [self.root / path for path in files if not (self.root / path).exists()]

    def complete(self, out: Out) -> bool:
        """Whether all objects of an output are there and sound."""
        return all(self.sound(md5) for md5 in self.hashes(out).values())


def md5_of(file: Path) -> str:
    """The MD5 of a file's content, by which DVC names its object."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their paths."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def busy(rwlock: Path) -> list[int]:
    """The processes of DVC that are at work on the repository, by `.dvc/tmp/rwlock`."""
    try:
        held: dict[str, dict[str, Any]] = json.loads(rwlock.read_text() or "{}")
        owners = [each for kind in held.values() for each in kind.values()]
        pids = {info["pid"] for each in owners for info in (each if isinstance(each, list) else [each])}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return []
    return sorted(pid for pid in pids if Path("/proc", str(pid)).exists())
