"""The house holds: stage = script = section = folder, deps and params name what is used, the lock is true."""

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from commands.deps import rewritten
from lib.base.code import ROOT, digest, imported_files, imported_modules, imports
from lib.base.versions import of_imports
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.sections import SECTIONS
from stages import code as stages_code

DVC: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
CODE, STAGES = DVC["code"], {name: stage.get("do", stage) for name, stage in DVC.items() if name != "code"}


def test_stage_is_script_is_section() -> None:
    scripts = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__", "code"}
    assert set(STAGES) == scripts == set(SECTIONS) - {"run"}
    assert list(YAML(typ="safe").load(ROOT / "params.yaml")) == list(SECTIONS)


@pytest.mark.parametrize("name", STAGES)
def test_outputs_lie_in_the_stages_own_folders(name: str) -> None:
    stage = STAGES[name]
    assert f"python -m stages.{name} " in stage["cmd"]
    for out in stage["outs"]:
        assert isinstance(out, str), "outs are cached"
        assert out.split("/")[:2] == ["artifacts", name]
    for entry in [*stage.get("metrics", []), *stage.get("plots", [])]:
        ((path, options),) = entry.items()
        assert path.split("/")[:2] == ["metrics", name]
        assert options["cache"] is False


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_the_command_is_a_dependency_or_an_output(name: str) -> None:
    stage = STAGES[name]
    known = {*stage["deps"], *stage["outs"]}
    known |= {path for entry in [*stage.get("metrics", []), *stage.get("plots", [])] for path in entry}
    known |= {str(Path(path).parent) for path in known if path.endswith(".model}")}  # the stage looks up the network
    item = "${key}" if any("${key}" in path for path in known) else "${item}"
    cmd = stage["cmd"].replace("{item}", item)
    used = {word for word in cmd.split() if word == "metrics" or word.startswith(("artifacts/", "metrics/"))}
    assert used <= known


@pytest.mark.parametrize("name", STAGES)
def test_nothing_from_params_reaches_a_shell(name: str) -> None:
    assert "$" not in STAGES[name]["cmd"]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_depends_on_the_digest_of_its_code(name: str) -> None:
    (out,) = CODE["outs"]
    assert {out: [name]} in STAGES[name]["params"]
    assert not [dep for dep in STAGES[name]["deps"] if dep.startswith(("lib", "stages"))]


def test_digests_are_of_all_code_that_stages_run(tmp_path: Path) -> None:
    stages_code.main(tmp_path / "code.yaml")
    found = YAML(typ="safe").load(tmp_path / "code.yaml")
    assert found == {name: digest([ROOT / "stages" / f"{name}.py"])[:16] for name in STAGES}
    run = {file.split("/")[0] for name in STAGES for file in imported_files(ROOT / "stages" / f"{name}.py")}
    assert run == set(CODE["deps"])


def test_packages_are_as_the_command_writes_them() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert rewritten(text) == text, "python -m commands.deps"
    assert rewritten(text.replace("[numpy, ", "[", 1)) == text


def test_the_pipeline_is_read_in_a_minute() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 280


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_the_stage_reads(name: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{name}.py").read_text())
    read: set[str] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "read":
            read |= _keys(call.args[0])
    listed = {re.sub(r"\$\{\w+\}", "*", key) for key in _keys_of_params(name)}
    listed = {re.sub(r"\.(frozen|full)$", ".*", key) for key in listed}
    assert {key if key in read else key.split(".")[0] for key in listed} == read


def test_a_section_that_is_listed_key_by_key_lacks_other_items_alone() -> None:
    keys = {f"contributions.{name}" for name in Contributions.model_fields} - {"contributions.models"}
    assert {"run", "components.keep", *keys} == _keys_of_params("contributions")
    keys |= {"components.tasks.${key}", *(f"components.{name}" for name in Components.model_fields if name != "tasks")}
    assert {"run", *keys} == _keys_of_params("components")


@pytest.mark.parametrize("name", STAGES)
def test_versions_are_those_of_the_packages_that_the_stage_imports(name: str) -> None:
    (listed,) = (entry for entry in STAGES[name]["params"] if isinstance(entry, dict) and "versions.yaml" in entry)
    packages = of_imports(imported_modules(ROOT / "stages" / f"{name}.py"))
    assert listed == {"versions.yaml": packages}
    assert {"numpy", "torch"} <= set(packages)


def _keys_of_params(name: str) -> set[str]:
    """Those of params.yaml."""
    return {entry for entry in STAGES[name]["params"] if isinstance(entry, str)}


def _keys(argument: ast.expr) -> set[str]:
    """A constant key, or an f-string with `*` for what is filled in."""
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    assert isinstance(argument, ast.JoinedStr)
    return {"".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in argument.values)}


@cache
def _locked() -> dict[str, Any]:
    """The entries of dvc.lock that params.yaml still asks for; DVC keeps those of removed items."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    wanted: set[str] = set()
    for name, stage in DVC.items():
        items: Any = params
        for part in re.findall(r"\w+", stage.get("foreach", "")):
            items = items[part]
        wanted |= {f"{name}@{item}" for item in items} if "foreach" in stage else {name}
    lock = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]
    assert wanted <= set(lock), "dvc.lock lacks a stage: dvc repro"
    return {name: lock[name] for name in sorted(wanted)}


def test_the_committed_lock_is_of_this_code() -> None:
    for dep in _locked()["code"]["deps"]:
        assert dep["md5"] == _md5(ROOT / dep["path"]), f"{dep['path']} has changed since dvc.lock was made: dvc repro"


def _md5(path: Path) -> str:
    """As DVC has it, of a file or a folder."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(sorted(listed, key=lambda one: one["relpath"])).encode()).hexdigest() + ".dir"


def test_the_committed_lock_is_of_these_params() -> None:
    now = {file: YAML(typ="safe").load(ROOT / file) for file in ("params.yaml", "versions.yaml")}
    now |= {CODE["outs"][0]: {name: digest([ROOT / "stages" / f"{name}.py"])[:16] for name in STAGES}}
    for stage, entry in _locked().items():
        if stage == "code":
            continue
        assert set(entry["params"]) == set(now)
        for file, values in entry["params"].items():
            for key, value in values.items():
                current: Any = now[file]
                for part in key.split("."):
                    current = current[part]
                assert current == value, f"{stage}: {key} has changed since dvc.lock was made: dvc repro"


LONGEST = 310  # lines of a file of lib
FLOORS = (
    {"base"},
    {"params"},
    {"images", "trace", "fit"},
    {"training"},
    {"zoo"},
    {"chain", "channels"},
    {"network"},
    {"mda"},
    {"dery"},
    {"report"},
)


def test_rooms_are_those_of_the_plan() -> None:
    rooms = {folder.name for folder in (ROOT / "lib").iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert rooms == set.union(*FLOORS)
    assert [file.name for file in (ROOT / "lib").iterdir() if file.is_file()] == ["__init__.py"]


def test_the_map_names_every_room_and_nothing_that_is_gone() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"^lib/(\w+)/ ", text, re.MULTILINE)) == set.union(*FLOORS)
    for path in re.findall(r"`((?:lib|tests|stages|commands|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_no_file_is_too_long_to_read() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in (ROOT / "lib").rglob("*.py")}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


def test_every_room_says_what_belongs_there() -> None:
    for file in (ROOT / "lib").rglob("__init__.py"):
        (only,) = ast.parse(file.read_text()).body
        assert isinstance(only, ast.Expr), file


def test_no_import_runs_up() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    arrows: set[tuple[str, str]] = set()
    for file in (ROOT / "lib").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) lib\b", file.read_text(), re.MULTILINE), (
            f"{file}: imports are relative"
        )
        own = file.relative_to(ROOT / "lib").parts[0]
        for name in imports(file):
            to = name.split(".")[1] if name.startswith("lib.") else own
            arrows |= {(own, to)} if to != own else set()
            assert floor.get(to, -1) <= floor.get(own, -1), f"{file} imports {name}"
    assert not arrows & {(to, own) for own, to in arrows}


def test_no_wall_clock_reaches_an_artifact() -> None:
    run = {file for name in STAGES for file in imported_files(ROOT / "stages" / f"{name}.py")}
    for file in sorted(ROOT / name for name in run):
        assert not re.search(r"\b(time\.time|perf_counter|process_time|(import|from) datetime)\b", file.read_text()), (
            file
        )


def test_lib_is_not_ignored_by_git() -> None:
    patterns = Path(ROOT / ".gitignore").read_text().split()
    assert not any(pattern.strip("/") == "lib" for pattern in patterns)
