"""Flipped bits: every one in what a job leaves, or in DVC's cache, is to be noticed in one line with the file."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.faults.job import Job
from lib.base import cache
from lib.base.errors import BrickyardError

_CACHED = 0.1  # the share of flips that hit an object in DVC's cache instead
_TO = ("--out", ".scratch/out.json", "--metrics", ".scratch/metrics.json")
_STAGES = {  # which program reads a file, and its arguments
    "artifacts/similarity/similarity.safetensors": ("stages.partition", "--similarity", "artifacts/similarity", *_TO),
    "artifacts/zoo/residual/card.json": ("commands.predict", "artifacts/zoo/residual", "pictures"),
    "artifacts/lego/network/model.safetensors": ("commands.predict", "artifacts/lego/network", "pictures"),
}  # fmt: skip


def flips(files: list[Path], count: int, seed: int) -> Iterator[tuple[Path, int]]:
    """`count` files, each as often as any other, and a random bit of each."""
    chances = random.Random(seed)
    full = [file for file in files if file.stat().st_size]
    for i in range(count):
        file = full[i % len(full)] if i >= count % len(full) else chances.choice(full)
        yield file, chances.randrange(8 * file.stat().st_size)


@contextlib.contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """Inside, one bit of the file is another; the file is replaced, not changed: it may be a link into the cache."""
    whole = file.read_bytes()
    mode = file.stat().st_mode
    content = bytearray(whole)
    content[bit // 8] ^= 1 << bit % 8
    _replaced(file, bytes(content), mode)
    try:
        yield
    finally:
        _replaced(file, whole, mode)


def said(file: Path) -> str | None:
    """What is wrong with how the reader of a damaged file answers, in words; None when it is right."""
    try:
        cache.READERS[file.suffix](file)
    except BrickyardError as error:
        line = str(error)
        return None if file.name in line and len(line.splitlines()) == 1 else f"not one line with the file: {line}"
    except Exception as error:  # this is what is looked for
        return f"traceback {type(error).__name__}: {error}"
    return "not noticed"


def tried(job: Job, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """How many bits of a finished job were flipped, and what went wrong, a line each."""
    wrong: list[str] = []
    outs = cache.outs(job.folder / "dvc.lock")
    cached = round(_CACHED * count)
    done = 0
    for file, bit in flips(job.files, count - cached - len(_STAGES), seed):
        with flipped(file, bit):
            fault = said(file) if file.suffix in cache.READERS else _said_by_heal(job, outs, file)
        wrong += [f"{file.relative_to(job.folder)}, bit {bit}: {fault}"] if fault else []
        done += 1
    sound = cache.Cache(job.cache, job.folder)
    owner = {sound.file(md5): out for out in outs for md5 in sound.hashes(out).values()}
    for file, bit in flips(sorted(owner), cached, seed + 1):
        with flipped(file, bit):
            fresh = cache.Cache(job.cache, job.folder)
            named = [fresh.file(md5) for md5 in fresh.damage(owner[file]).objects]
        wrong += [] if named == [file] else [f"{file.relative_to(job.folder)}, bit {bit}: heal does not find it"]
        done += 1
    _picture(job.folder / "pictures" / "0.png")
    for name, (module, *arguments) in _STAGES.items():
        file = job.folder / name
        with flipped(file, 8 * file.stat().st_size - 77):
            code, line = job.run(module, *arguments)
        lines = line.strip().splitlines()
        if code != 1 or len(lines) != 1 or file.name not in line:
            wrong.append(f"{name}: {module} ends with {code} and {line[-300:]!r}")
        done += 1
    return done, wrong


def _said_by_heal(job: Job, outs: list[cache.Out], file: Path) -> str | None:
    """Of a file that nothing reads but people, such as the report."""
    fresh = cache.Cache(job.cache, job.folder)
    owners = [out for out in outs if file.is_relative_to(job.folder / out.path)]
    damaged = [path for out in owners for path in fresh.damage(out).files]
    return None if damaged == [file] else f"heal names {[path.name for path in damaged]}"


def _picture(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (20, 30), (90, 0, 0)).save(file)


def _replaced(file: Path, content: bytes, mode: int) -> None:
    partial = file.with_name(f".{file.name}.flipped")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.replace(file)
