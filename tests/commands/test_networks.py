"""commands.predict and commands.latency with a network of each kind."""

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from commands import latency, predict
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from tests import preloaded
from tests.network.made import KINDS, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of each kind, and pictures."""
    root = tmp_path_factory.mktemp("made")
    make(root)
    (root / "pictures").mkdir()
    for i in range(2):
        Image.new("RGB", (20 + i, 30), (90 * i, 0, 0)).save(root / "pictures" / f"{i}.png")
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_classifies(made: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    predict.main(made / kind, made / "pictures")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [Path(file).name for file, _, _ in lines] == ["0.png", "1.png"]
    assert all(name in "abc" and 0 < float(share) <= 100 for _, name, share in lines)


def test_latencies_of_folders_are_printed_and_nothing_is_written(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    (made / "params.yaml").write_text("run: {seed: 0, threads: 1}\n")
    named = ("a [copy]", "a[b]")
    for name in named:
        shutil.copytree(KINDS[0], name)
    latency.main([*map(Path, (*KINDS, *named))], Path("zoo"), Path("bricks"), tmp_path / "latency.json", 1, 1)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*KINDS, *named))
    assert not (tmp_path / "latency.json").exists()
    with pytest.raises(BrickyardError, match="nowhere holds no network"):
        latency.main([Path("nowhere")], Path("zoo"), Path("bricks"), tmp_path / "latency.json", 1, 1)


def _run(command: str, *arguments: str | Path, to: str) -> subprocess.CompletedProcess[str]:
    with Path(to).open("w") as out:
        return subprocess.run(
            [preloaded.folder() / "python", "-m", f"commands.{command}", *map(str, arguments)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )


@pytest.mark.parametrize("command", ["predict", "latency"])
def test_a_full_disk_and_a_damaged_file_are_one_line(made: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "network").mkdir()
    for file in ("recipe.json", "model.safetensors"):
        (tmp_path / "network" / file).write_bytes((made / "assembled" / file).read_bytes()[:-9])
    rest = {"predict": [made / "pictures"], "latency": ["--repeats", "1"]}[command]
    done = _run(command, made / "assembled", *rest, to="/dev/full")
    assert done.returncode == 1
    full = f"{command}: No space left on device; make room and run it again"
    assert [line for line in done.stderr.splitlines() if "other processes" not in line] == [full]
    done = _run(command, tmp_path / "network", *rest, to="/dev/null")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{command}: {tmp_path}/network/recipe.json is not valid JSON: ")
    assert done.stderr.count("\n") == 1
