"""Clones that share no folder make together, through a remote, what one of them makes alone."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from commands.fleet import apart
from commands.fleet.apart import Job, Made
from commands.fleet.stages import Stage, to_run
from lib.base.errors import BrickyardError
from tests import preloaded

STAGES = """
stages:
  first:
    cmd: echo first >>../began; mkdir -p parts metrics; cat data >parts/a; echo b >parts/b; echo 1 >metrics/first.json
    deps: [data]
    outs: [parts]
    metrics: [metrics/first.json: {cache: false}]
  left:
    cmd: >-
      echo left >>../began; mkdir -p metrics/left; cat parts/a >left; echo 2 >metrics/left/one;
      echo 3 >metrics/left/two
    deps: [parts/a]
    outs: [left]
    plots: [metrics/left: {cache: false}]
  right:
    cmd: echo right >>../began; mkdir -p .scratch/usage; echo long >.scratch/usage/right.json; cat parts/b >right
    deps: [parts/b]
    params: [x]
    outs: [right]
  both:
    cmd: echo both >>../began; cat left right metrics/*.json metrics/left/* >both
    deps: [left, right, metrics]
    outs: [both]
"""
NAMES = ["first", "left", "right", "both"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project that has run, `serial`, and clones `client`, `one` and `two` with one remote, which have
    not; to be copied, not changed.
    """
    top = tmp_path_factory.mktemp("made")
    client = top / "client"
    client.mkdir()
    (client / "dvc.yaml").write_text(STAGES)
    (client / "params.yaml").write_text("x: 1e-3\n")
    (client / "data").write_text("data\n")
    subprocess.run(["git", "init", "-q"], cwd=client, check=True)
    _dvc(client, "init", "-q")
    (client / ".dvc" / "config").write_text(
        "[core]\n    analytics = false\n    remote = r\n['remote \"r\"']\n    url = ../../remote\n"
    )
    for name in ("serial", "one", "two"):
        shutil.copytree(client, top / name)
    _dvc(top / "serial", "repro")
    (top / "began").unlink()
    return top


@pytest.fixture
def clones(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, to be changed; the process stands in `client`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with chdir(tmp_path / "client"):
        yield tmp_path


def _dvc(repo: Path, *arguments: str) -> str:
    done = preloaded.run(repo, "dvc", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ran(clones: Path, where: dict[str, str]) -> dict[str, Made]:
    """Runs the stages in the clones that are named, as a fleet does; what they have made."""
    stages, made = to_run([]), dict[str, Made]()
    jobs = apart.begin([stage.name for stage in stages])
    for stage in stages:
        made[stage.name] = _run(clones / where[stage.name], stage, jobs[stage.name], made)
    return made


def _run(clone: Path, stage: Stage, job: Job, made: dict[str, Made]) -> Made:
    with chdir(clone):
        return apart.run(stage.name, replace(job, made={**job.made, **{name: made[name] for name in stage.after}}))


def _same(clones: Path) -> None:
    """The client has all that the serial run has."""
    lock, other = (YAML(typ="safe").load(clones / name / "dvc.lock") for name in ("client", "serial"))
    assert lock == other
    for file in ("parts/a", "parts/b", "left", "right", "both", "metrics/first.json", "metrics/left/two"):
        assert (clones / "client" / file).read_bytes() == (clones / "serial" / file).read_bytes()
    assert _dvc(clones / "client", "status", "--json").strip() == "{}"


def test_two_clones_make_what_one_makes_and_find_it_again(clones: Path) -> None:
    made = _ran(clones, {"first": "one", "left": "one", "right": "two", "both": "two"})
    assert made["left"].uncached == {"metrics/left": {"one": b"2\n", "two": b"3\n"}}
    assert not (clones / "two/parts/a").exists(), "the part that is read is all that comes"
    apart.put(made)
    assert Path(".scratch/usage/right.json").read_text() == "long\n", "what stages took is known here, too"
    apart.pull(NAMES)
    _same(clones)
    for clone in ("client", "one", "two"):
        for path in (".dvc/cache", "parts", "left", "right", "both", "metrics", "dvc.lock"):
            place = clones / clone / path
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    assert _ran(clones, {"first": "two", "left": "two", "right": "one", "both": "one"}) == {
        **made,
        "right": replace(made["right"], usage=b""),
    }
    assert sorted((clones / "began").read_text().split()) == sorted(NAMES), "the second time they are got back"
    apart.put(made)
    apart.pull(NAMES)
    _same(clones)


def test_what_is_made_already_is_sent_and_what_changes_runs_again(clones: Path) -> None:
    _dvc(clones / "client", "repro", "right")
    (clones / "began").unlink()
    assert [stage.name for stage in to_run([])] == ["left", "both"]
    apart.put(_ran(clones, {"left": "one", "both": "two"}))
    apart.pull(["left", "both"])
    _same(clones)
    for name in ("client", "one", "two"):
        (clones / name / "params.yaml").write_text("x: 2\n")
    made = _ran(clones, {"right": "one", "both": "two"})
    assert made["right"].entry["params"] == {"params.yaml": {"x": 2}}
    assert (clones / "began").read_text().split() == ["left", "both", "right"], "both reads what it read before"


def test_other_data_is_refused_by_name(clones: Path) -> None:
    (clones / "one/data").write_text("other\n")
    with pytest.raises(BrickyardError, match=r"^data is another here than where the fleet was started: "):
        _ran(clones, {"first": "one"})
    (clones / "one/data").unlink()
    with pytest.raises(BrickyardError, match=r"^data is another here than where the fleet was started: "):
        _ran(clones, {"first": "one"})
    assert not (clones / "began").exists()


def test_a_remote_is_known_by_what_was_written_there(clones: Path) -> None:
    erase = apart.sign("name")
    assert apart.reads("name") == ""
    with chdir(clones / "one"):
        assert apart.reads("name") == ""
        _dvc(Path(), "remote", "modify", "r", "url", str(clones / "elsewhere"))
        assert apart.reads("name") == f"its remote {clones / 'elsewhere'} is another than here"
        _dvc(Path(), "remote", "remove", "r")
        assert apart.reads("name").startswith("its clone has no default remote: ")
        with pytest.raises(BrickyardError, match=r"^workers have folders of their own, and there is no "):
            apart.sign("name")
    erase()
    assert apart.reads("name") != ""
    assert list((clones / "remote" / "fleet").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/proc/nothing", "remote r: No such file or directory: /proc/nothing"),
        ("data", "remote r: Not a directory"),
        ("s3://bucket/x", "remote r: s3 is supported, but requires 'dvc-s3' to be installed"),
    ],
)
def test_a_remote_that_cannot_be_written_is_one_line(clones: Path, url: str, says: str) -> None:
    _dvc(Path(), "remote", "modify", "r", "url", url)
    with pytest.raises(BrickyardError) as told:
        apart.sign("name")
    assert str(told.value).startswith(says)


@pytest.mark.slow
def test_a_remote_that_is_full_costs_no_work(clones: Path) -> None:
    remote, one = clones / "remote", clones / "one"
    remote.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", remote]).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        erase = apart.sign("name")
        (remote / "filled").write_bytes(bytes(shutil.disk_usage(remote).free))
        (stage, *_), jobs = to_run([]), apart.begin(NAMES)
        with pytest.raises(BrickyardError, match=r"^remote r: No space left on device$"):
            _run(one, stage, jobs["first"], {})
        (remote / "filled").unlink()
        _run(one, stage, jobs["first"], {})
        assert (clones / "began").read_text() == "first\n"
        erase()
    finally:
        subprocess.run(["umount", remote], check=True)
