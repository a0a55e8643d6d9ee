"""Finds what a disk has damaged, removes it and gets it back: python -m commands.heal [--dry] [--all].

DVC trusts the read-only objects in its cache: it neither notices a flipped bit there nor replaces the object when a
stage runs again. This reads the content of every object that dvc.lock names and of the files below artifacts/, removes
what is damaged, and then copies, checks out, pulls or makes it anew. What is sound stays, and so does all that lies
elsewhere.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from commands import in_one_line, said
from lib.base import cache
from lib.base.errors import BrickyardError
from lib.base.progress import track


def main(dry: bool, everything: bool) -> None:
    """Says what is damaged; unless `dry`, removes it and gets it back. everything: other objects of the cache, too."""
    locks = Path(".dvc/tmp/rwlock")
    if cut := _is_cut_short(locks):
        print(f"{locks} is damaged{'' if dry else ': removed'}")
        if not dry:
            locks.unlink()
    listed = cache.outs(Path("dvc.lock"))
    found = cache.Cache(Path(said("cache", "dir")) / "files" / "md5", Path())
    if (pids := cache.busy(locks)) and not dry:
        raise BrickyardError(f"DVC is at work (process {pids[0]}): wait until it has ended")
    damage = [found.damage(out) for out in track(listed, "reading", len(listed))]
    lost = any(md5.endswith(".dir") for one in damage for md5 in one.objects)  # what it listed is not known
    objects = list(dict.fromkeys(md5 for one in damage for md5 in one.objects))
    if everything or lost:
        objects += [
            md5 for md5 in track(found.everything(), "reading all") if found.damaged(md5) and md5 not in objects
        ]
    files = [file for one in damage for file in one.files]
    others = list(dict.fromkeys(file for one in damage for file in one.others))
    for file in others:
        print(f"{file} is not the one in dvc.lock, but whole: left as it is")
    for damaged in [*(found.file(md5) for md5 in objects), *files]:
        print(f"{damaged} is damaged{'' if dry else ': removed'}")
    if dry and (count := len(objects) + len(files) + cut):
        raise BrickyardError(f"{count} files are damaged: ./run python -m commands.heal")
    if not objects and not files:
        print("nothing else is damaged" if cut else "nothing is damaged")
        if gone := [out for out in listed if found.missing(out)]:
            stages = " ".join(dict.fromkeys(out.stage for out in gone))
            raise BrickyardError(f"{len(gone)} of {len(listed)} outputs are not here: ./run dvc repro {stages}")
        return
    for damaged in [*(found.file(md5) for md5 in objects), *files]:
        damaged.unlink(missing_ok=True)
    _get_back([one for one in damage if one], found.folder, others)


def _is_cut_short(locks: Path) -> bool:
    """Whether a kill or a full disk has left a part of DVC's lock file, which DVC writes in place; still so a second
    later, since it may be at that right now.
    """
    for wait in (0, 1):
        time.sleep(wait)
        try:
            json.loads(locks.read_text() or "{}")
        except ValueError:
            continue
        except FileNotFoundError:
            pass
        return False
    return True


def _get_back(damage: list[cache.Damage], folder: Path, others: list[Path]) -> None:
    """From the workspace, the cache, a remote or, at last, by running the stages again.

    others: files that are whole, but not those of dvc.lock, which running stages would replace.
    """
    outs = [one.out for one in damage]
    for out in outs:
        cache.Cache(folder, Path()).put_back(out)
    if (stages := _stages(_left(outs, folder))) and said("remote", "list"):
        _dvc("fetch", *stages)
        fresh = cache.Cache(folder, Path())
        for md5 in [md5 for out in outs for md5 in fresh.damage(out).objects]:
            fresh.file(md5).unlink(missing_ok=True)  # the remote has what was damaged when it was pushed
    left = _left(outs, folder)
    fresh = cache.Cache(folder, Path())
    for out in [out for out in outs if out not in left]:
        if gone := fresh.missing(out):  # file by file: what lies beside may be another's
            _dvc("checkout", *map(str, gone))
    if stages := _stages(left):
        if others:
            raise BrickyardError(
                f"what was damaged is removed; making it anew may replace {others[0]}, which is whole, but not the one "
                f"in dvc.lock: move it away, then dvc repro {' '.join(stages)}"
            )
        failed = _dvc("repro", *stages)
        if failed or (left := _left(outs, folder)):
            raise BrickyardError(f"what was damaged is removed, but not all could be made anew: dvc repro {stages[0]}")
    fresh = cache.Cache(folder, Path())
    still = [out for out in outs if out in left or fresh.missing(out)]
    if back := [str(out.path) for out in outs if out not in still]:
        print(f"got back: {', '.join(sorted(back))}")
    if still:
        raise BrickyardError(f"not got back: {', '.join(str(out.path) for out in still)}; dvc repro {still[0].stage}")


def _left(outs: list[cache.Out], folder: Path) -> list[cache.Out]:
    fresh = cache.Cache(folder, Path())
    return [out for out in outs if not fresh.complete(out)]


def _stages(outs: list[cache.Out]) -> list[str]:
    """The stages of some outputs, but for those that params.yaml has no more."""
    if not outs:
        return []
    known = {line.split()[0] for line in said("stage", "list", "--name-only").splitlines()}
    return sorted({out.stage for out in outs} & known)


def _dvc(*arguments: str) -> int:
    print(f"dvc {' '.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.heal", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--dry", action="store_true", help="say what is damaged and change nothing")
    parser.add_argument("--all", action="store_true", dest="everything", help="read all objects of the cache")
    given = parser.parse_args()
    with in_one_line("heal"):
        main(given.dry, given.everything)
