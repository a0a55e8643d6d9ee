"""An edit to any file that a result ran changes its key; an edit elsewhere does not."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

from lib.base import code
from lib.dery.assembly import proxies, ranking
from lib.dery.similarity import indices, matrix

FILES = {
    "lib/__init__.py": '"""Rooms."""\n',
    "lib/room/__init__.py": '"""A room."""\n',
    "lib/room/main.py": "from typing import TYPE_CHECKING\n\nfrom . import near\nfrom ..far import thing\n\n"
    "if TYPE_CHECKING:\n    from .typed import Kind\n\n\n"
    "def find(name):\n    import importlib\n    from lib.late import x\n\n"
    '    return importlib.import_module(f".members.{name}", __package__)\n\n\nPAGE = "template"\n',
    "lib/room/near.py": "from .behind import y\n",
    "lib/room/behind.py": "y = 1\n",
    "lib/room/typed.py": "Kind = int\n",
    "lib/room/members/__init__.py": "",
    "lib/room/members/one.py": "from ...used import z\n",
    "lib/room/template/page.html": "<p>\n",
    "lib/room/other.py": "o = 1\n",
    "lib/far.py": "thing = 1\n",
    "lib/late.py": "x = 1\n",
    "lib/used.py": "z = 1\n",
    "stages/stage.py": "s = 1\n",
}
RUN = [
    "lib/room/main.py",
    "lib/room/near.py",
    "lib/room/behind.py",
    "lib/room/members/one.py",
    "lib/room/template/page.html",
    "lib/far.py",
    "lib/late.py",
    "lib/used.py",
]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of a small repository."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path / "lib/room/main.py"


def test_files_are_those_that_a_script_runs(main: Path) -> None:
    assert code.imported_files(main) == set(RUN)


@pytest.mark.parametrize("name", FILES)
def test_an_edit_counts_where_the_file_is_run_and_nowhere_else(name: str, main: Path) -> None:
    before = code.digest([main])
    file = code.ROOT / name
    edits = {".html": "<!-- -->", "__init__.py": '"""Edited."""'}
    file.write_text(f"{file.read_text()}{edits.get(file.suffix, edits.get(file.name, 'edited = 1'))}\n")
    assert (code.digest([main]) != before) == (name in RUN)


SOURCE = '''"""What it is about."""
import os  # of the system

PAGE = """# a heading

END
"""  # no docstring


class Kind:
    """One, é."""

    def f(self, x: str = "#"):
        """Says

        more."""; return f"{x} # {PAGE}"
'''
PLAIN = '''import os
PAGE = """# a heading

END
"""
class Kind:
    def f(self, x: str = "#"):
        ; return f"{x} # {PAGE}"
'''


def test_comments_and_docstrings_do_not_count_and_other_strings_do() -> None:
    source = SOURCE.replace("END", "end  ")
    assert code.plain(source) == PLAIN.replace("END", "end  ").rstrip("\n")
    assert code.plain(source.replace("One, é.", "Another.").replace("# of the system", "")) == code.plain(source)
    for old, new in (("end  ", "end"), ('"#"', "'#'"), ("# {", "#{"), ("\n\nend", "\nend")):
        assert code.plain(source.replace(old, new)) != code.plain(source)


@pytest.mark.parametrize("folder", ["lib", "stages"])
def test_what_counts_of_a_module_does_what_the_module_does(folder: str) -> None:
    compared = 0
    for file in sorted((code.ROOT / folder).rglob("*.py")):
        source = file.read_text()
        try:
            left = ast.parse(code.plain(source))
        except SyntaxError:
            continue  # something was nothing but a docstring
        whole = ast.parse(source)
        for node in ast.walk(whole):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False):
                del node.body[0]
        assert ast.dump(left) == ast.dump(whole), file
        compared += 1
    assert compared > 10


def test_a_room_whose_init_has_code_counts(main: Path) -> None:
    (code.ROOT / "lib/room/members/__init__.py").write_text("first = 1\n")
    assert "lib/room/members/__init__.py" in code.imported_files(main)


def test_a_new_member_of_a_folder_counts(main: Path) -> None:
    before = code.digest([main])
    (code.ROOT / "lib/room/members/two.py").write_text("t = 1\n")
    main.write_text(f"{main.read_text()}\n")  # what has been read of a file is remembered while it stays the same
    assert code.imported_files(main) == {*RUN, "lib/room/members/two.py"}
    assert code.digest([main]) != before


@pytest.mark.parametrize(("module", "folder"), [(matrix, indices), (ranking, proxies)], ids=["indices", "proxies"])
def test_members_that_are_found_by_name_are_run(module: ModuleType, folder: ModuleType) -> None:
    members = {str(file.relative_to(code.ROOT)) for file in Path(str(folder.__file__)).parent.glob("[a-z]*.py")}
    assert members <= code.imported_files(Path(str(module.__file__)))
