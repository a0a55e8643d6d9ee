"""Names that DVC would paste into paths and commands."""

import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from commands import names
from lib.base.code import ROOT
from lib.base.errors import BrickyardError

HOSTILE = [
    "../../data/images",
    "..",
    "/etc",
    "a b",
    "l; touch x; true",
    "$(touch x)",
    "l'; touch x; '",
    "a\nb",
    "é",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["zoo.models", "components.tasks", "components.tasks.a.model", "contributions.models"])
def test_a_name_that_is_more_than_a_name_is_refused(name: str, key: str, tmp_path: Path) -> None:
    params = {
        "zoo.models": {"zoo": {"models": {"good": {}, name: {}}}},
        "components.tasks": {"components": {"tasks": {name: {"model": "good"}}}},
        "components.tasks.a.model": {"components": {"tasks": {"a": {"model": name}}}},
        "contributions.models": {"contributions": {"models": ["good", name]}},
    }[key]
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    with pytest.raises(BrickyardError, match=r"params\.yaml: [\w.]+: .*: a name has letters, digits, _ and - only"):
        names.main(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: [", "", "[]", "zoo: 1", "zoo: {models: 1}", "components: {tasks: {a: 1}}"])
def test_what_has_another_form_is_left_to_the_stages(text: str, tmp_path: Path) -> None:
    names.main(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text(text)
    names.main(tmp_path / "params.yaml")


def test_the_projects_own_names_are_good() -> None:
    names.main(ROOT / "params.yaml")
    names.main(ROOT / "tests" / "stages" / "pico.yaml")


@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="runs ./run, which would make the environment first")
@pytest.mark.parametrize("command", ["dvc repro", "python -m commands.heal"])
def test_run_says_where_to_stand(command: str) -> None:
    done = subprocess.run(
        [str(ROOT / "run"), *command.split()], cwd=ROOT / "stages", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"run: stand in the root of the repository: cd '{ROOT}'\n"
