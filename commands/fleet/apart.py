"""Stages in clones of their own, which exchange what they make through the default remote of DVC.

A clone that runs a stage gets the entries of dvc.lock of those that the stage follows, pulls their outs and pushes its
own; its entry, and metrics and plots, which lie in no cache, go back to the client with the task's result.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import SCRATCH
from lib.base import files
from lib.base.errors import BrickyardError

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.repo.index import Index
    from dvc.stage import Stage
    from dvc_data.hashfile.db import HashFileDB

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Made:
    """What a stage has made; entry: of dvc.lock; uncached: of each out that no cache holds, its files by name; usage:
    the record of what it took, where it ran.
    """

    entry: Mapping[str, Any]
    uncached: Mapping[str, Mapping[str, bytes]]
    usage: bytes = b""


@dataclass(frozen=True)
class Job:
    """What a clone must know before it runs a stage; sources: MD5 of what it reads and no stage makes; made: what is
    there of those that it follows.
    """

    sources: Mapping[str, str]
    made: Mapping[str, Made] = field(default_factory=dict)


def begin(names: Collection[str]) -> dict[str, Job]:
    """Pushes what these stages read and none of them makes. Raises BrickyardError where that cannot be."""
    with _repo() as repo, _locked(repo):
        index, found = repo.index, dict[str, Job]()
        pushed = set[str]()
        for stage in index.stages:
            if stage.addressing in names:
                outs = [out for out in _read(index, stage) if out.stage.addressing not in names]
                with _told(repo):
                    _push(repo, [out for out in outs if out.fs_path not in pushed])
                pushed |= {out.fs_path for out in outs}
                upstream = {out.stage.addressing: out.stage for out in outs if out.stage.cmd}
                made = {name: _made(one) for name, one in upstream.items()}
                found[stage.addressing] = Job(_sources(index, stage), made)
        return found


def put(made: Mapping[str, Made]) -> None:
    """Writes entries into dvc.lock, metrics, plots and records of usage to their places."""
    from dvc.utils.serialize import load_yaml, modify_yaml

    with _repo() as repo, _locked(repo):
        there = load_yaml(LOCK)["stages"] if LOCK.exists() else {}
        new = {name: one.entry for name, one in made.items() if there.get(name) != one.entry}
        if new:
            with modify_yaml(str(LOCK)) as lock:
                lock.setdefault("schema", "2.0")
                lock.setdefault("stages", {}).update(new)
        for name, one in made.items():
            if one.usage:
                files.write(_record(name), one.usage, durable=False)
            for out, content in one.uncached.items():
                _put(Path(out), content)


def pull(names: Collection[str]) -> None:
    """Gets what these stages have made. Raises BrickyardError where some of it is not to be had."""
    with _repo() as repo, _locked(repo), _told(repo):
        _pull(repo, {out: out.fs_path for out in repo.index.outs if out.stage.addressing in names})


def run(name: str, job: Job) -> Made:
    """Runs a stage, or gets back what it made when it ran before, in this clone or another. Raises BrickyardError."""
    put(job.made)
    noted = _usage(name)
    with _repo() as repo:
        with _locked(repo):
            index = repo.index
            (stage,) = (stage for stage in index.stages if stage.addressing == name)
            own = _sources(index, stage)
            for path, expected in job.sources.items():
                if own.get(path) != expected:
                    raise BrickyardError(
                        f"{path} is another here than where the fleet was started: bring it to the same"
                    )
            read = _read(index, stage)
            with _told(repo):
                _pull(repo, read)
                repo.stage_cache.transfer(_remote_of_runs(repo), repo.cache.legacy, force=False)
            before = _runs(repo)
            if stage.reproduce(pull=True):
                stage.dump(update_pipeline=False)
        with _told(repo):  # while others in this clone go on
            _push(repo, stage.outs)
            _push_runs(repo, _runs(repo) - before)
        taken = _usage(name)
        return replace(_made(stage), usage=taken if taken != noted else b"")


def sign(name: str) -> Callable[[], None]:
    """Leaves a file in the remote, by which workers know that theirs is the same; returns what removes it.

    Raises BrickyardError where there is no default remote, or it cannot be written.
    """
    with _repo() as repo:
        if not repo.config["core"].get("remote"):
            raise BrickyardError(
                "workers have folders of their own, and there is no default remote through which to exchange what they "
                "make: ./run dvc remote add -d NAME URL"
            )
        with _told(repo):
            remote = repo.cloud.get_remote()
            path = remote.fs.join(remote.path, "fleet", name)
            remote.fs.makedirs(remote.fs.parent(path), exist_ok=True)
            remote.fs.pipe_file(path, b"fleet\n")
        return lambda: remote.fs.remove(path)


def reads(name: str) -> str:
    """Why this clone does not see a signature: empty where it does."""
    try:
        with _repo() as repo:
            if not repo.config["core"].get("remote"):
                return "its clone has no default remote: ./run dvc remote add -d NAME URL"
            with _told(repo):
                remote = repo.cloud.get_remote()
                there = remote.fs.exists(remote.fs.join(remote.path, "fleet", name))
            return "" if there else f"its remote {remote.path} is another than here"
    except BrickyardError as error:
        return str(error)


@contextmanager
def _repo() -> Iterator["Repo"]:
    """DVC's view of the folder that the process stands in; its errors in a line."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(_wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        raise BrickyardError(str(error.__cause__ or error)) from error


def _locked(repo: "Repo") -> AbstractContextManager[None]:
    """Nobody else changes it meanwhile; waits for that."""
    from dvc.repo import lock_repo

    return lock_repo(repo)


@contextmanager
def _told(repo: "Repo") -> Iterator[None]:
    """What goes wrong with the remote is one line that says why, which DVC tells its log alone."""
    logged = list[str]()
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(_text(record.exc_info[1]) if record.exc_info else record.getMessage())
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_objects", "dvc_data")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except Exception as error:  # of whatever kind a storage's own library has
        name = repo.config["core"].get("remote")
        raise BrickyardError(f"remote {name}: {(logged or [_text(error)])[-1]}") from error
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _text(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename and not error.filename2 else error.strerror
    return str(error) or type(error).__name__


def _read(index: "Index", stage: "Stage") -> dict["Output", str]:
    """The outs that a stage reads, and of each the path that it reads: all of it, or a part."""
    found = dict["Output", str]()
    for out in index.outs:
        paths = [dep.fs_path for dep in stage.deps if out.fs.overlaps(out.fs_path, dep.fs_path)]
        if paths:
            found[out] = paths[0] if len(paths) == 1 and out.fs.isin(paths[0], out.fs_path) else out.fs_path
    return found


def _sources(index: "Index", stage: "Stage") -> dict[str, str]:
    """MD5 of what a stage reads and no stage makes; params are none, since they are compared elsewhere."""
    own = [dep for dep in stage.deps if dep.hash_name == "md5"]
    own = [dep for dep in own if not any(dep.fs.overlaps(out.fs_path, dep.fs_path) for out in index.outs)]
    return {dep.def_path: str(dep.get_hash().value if dep.exists else "missing") for dep in own}


def _pull(repo: "Repo", outs: Mapping["Output", str]) -> None:
    """Gets outs, or the path in each that is wanted, where they are not here as their entries say.

    `Repo.pull` reads dvc.lock anew for every target.
    """
    wanted = {out: path for out, path in outs.items() if out.use_cache and out.workspace_status()}
    for out, path in wanted.items():
        for objects in out.get_used_objs(filter_info=path).values():
            if repo.cloud.pull(objects).failed:
                raise BrickyardError(f"{out} is not to be had")
        out.stage.checkout(filter_info=path, force=True)


def _push(repo: "Repo", outs: Iterable["Output"]) -> None:
    """What DVC keeps of outs."""
    for out in outs:
        for objects in out.get_used_objs().values():
            if repo.cloud.push(objects).failed:
                raise BrickyardError(f"{out} could not be written")


def _made(stage: "Stage") -> Made:
    from dvc.stage.serialize import to_single_stage_lockfile

    uncached = [Path(out.def_path) for out in stage.outs if not out.use_cache]
    return Made(to_single_stage_lockfile(stage), {str(out): _content(out) for out in uncached})


def _record(name: str) -> Path:
    """Where a stage notes what it took (`lib.base.usage`)."""
    return SCRATCH / "usage" / f"{name}.json"


def _usage(name: str) -> bytes:
    record = _record(name)
    return record.read_bytes() if record.is_file() else b""


def _content(out: Path) -> dict[str, bytes]:
    found = [file for file in sorted(out.rglob("*")) if file.is_file()] if out.is_dir() else [out]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in found}


def _put(out: Path, content: Mapping[str, bytes]) -> None:
    if out.exists() and _content(out) == content:
        return
    if out.is_dir():
        shutil.rmtree(out)
    for name, found in content.items():
        files.write(out / name, found, durable=False)


def _runs(repo: "Repo") -> set[Path]:
    """What DVC remembers of runs, each a file KEY/VALUE."""
    return set(Path(repo.stage_cache.cache_dir).glob("*/*/*"))


def _push_runs(repo: "Repo", runs: Iterable[Path]) -> None:
    """DVC 3.67 pushes runs without metrics and plots that they made, so that no other clone can get them back."""
    from dvc.fs import generic

    remote, cache = _remote_of_runs(repo), repo.cache.legacy
    for run in sorted(runs):
        for objects in repo.stage_cache.get_used_objs([(run.parent.name, run.name)]).values():
            if repo.cloud.push(objects).failed:
                raise BrickyardError("a metric could not be written")
        to = remote.fs.join(remote.path, *run.relative_to(cache.path).parts)
        generic.copy(cache.fs, str(run), remote.fs, to)


def _remote_of_runs(repo: "Repo") -> "HashFileDB":
    return repo.cloud.get_remote_odb(hash_name="md5-dos2unix")
