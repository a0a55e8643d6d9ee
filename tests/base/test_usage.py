"""What a stage took is kept where it ran, by the stage itself, and never in its way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.base import artifacts, usage
from lib.base.code import ROOT
from lib.base.usage import Usage
from tests import preloaded


def test_a_record_comes_back_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    artifacts.write_json(card, {"counts": {"train": {"a": 2, "b": 3}, "test": {"a": 1, "b": 0}}})
    usage.note(tmp_path, "zoo@a", 1.5, {"run": {"threads": 2}}, card)
    usage.note(tmp_path, "code", 1.0, {}, tmp_path / "none.json")
    found = usage.load(tmp_path)
    assert found["zoo@a"].images == {"train": 5, "test": 1}
    assert found["zoo@a"].params == {"run": {"threads": 2}}
    assert found["code"].images == {}
    assert usage.seconds(tmp_path) == {"zoo@a": 1.5, "code": 1.0}
    (tmp_path / "code.json").write_text("{}")
    usage.save(tmp_path, "zoo@b", Usage(1.0, 1, params={"when": np.zeros(1)}))  # nothing that JSON holds
    assert list(usage.load(tmp_path)) == ["zoo@a"]


def test_what_has_no_name_or_no_place_is_not_kept(tmp_path: Path) -> None:
    usage.note(tmp_path, "", 1.0, {}, tmp_path)
    usage.note(tmp_path, "../out", 1.0, {}, tmp_path)
    (tmp_path / "file").touch()
    usage.note(tmp_path / "file", "zoo", 1.0, {}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


TAKES = """
import numpy as np
from lib.base import usage
before = usage.peak()
taken = np.ones(2**25)
del taken
print(before, usage.peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be that of a process before")
def test_the_peak_is_of_this_process_and_holds_what_has_been_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", TAKES], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 0 < before < 2**27
    assert before + 2**27 < after < before + 2**29


def test_a_stage_notes_itself_where_dvc_runs_it_and_has_ended_well(tmp_path: Path) -> None:
    (tmp_path / "versions.yaml").write_text((ROOT / "versions.yaml").read_text())

    def run(stage: str, name: str, *arguments: str) -> int:
        return preloaded.run(tmp_path, stage, *arguments, PYTHONPATH=str(ROOT), DVC_STAGE=name).returncode

    assert run("stages.code", "", "--out", "code.yaml") == 0
    assert not (tmp_path / ".scratch").exists()
    assert run("stages.code", "code", "--out", "code.yaml") == 0
    assert 0 < usage.load(tmp_path / ".scratch/usage")["code"].seconds < 100
    assert run("stages.partition", "partition", "--similarity", "a", "--out", "b", "--metrics", "c") == 1
    assert list(usage.load(tmp_path / ".scratch/usage")) == ["code"]
