"""Archives: unpacked whole, or refused in one line with nothing left behind."""

import io
import os
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.base.errors import BrickyardError
from lib.images import archives

CONTENT = {f"pets/cat/{i}.png": os.urandom(900) for i in range(24)}


def _tar(path: Path, mode: str = "w", **members: bytes) -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in (members or CONTENT).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CONTENT.items():
            archive.writestr(name, content)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "x.tar": _tar,
    "x.tar.gz": lambda path: _tar(path, "w:gz"),
    "x.tgz": lambda path: _tar(path, "w:gz"),
    "x.tar.bz2": lambda path: _tar(path, "w:bz2"),
    "x.tar.xz": lambda path: _tar(path, "w:xz"),
    "x.zip": _zip,
    "X.ZIP": _zip,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_unpacked_and_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    whole = KINDS[name](tmp_path / name)
    archives.unpack(whole, tmp_path / "out")
    found = {file.relative_to(tmp_path / "out").as_posix(): file for file in (tmp_path / "out").rglob("*.png")}
    assert {name: file.read_bytes() for name, file in found.items()} == CONTENT
    content = whole.read_bytes()
    for share in (0, 0.3, 0.7, 0.9):
        cut = tmp_path / f"cut_{name}"
        cut.write_bytes(content[: int(share * len(content)) // 512 * 512])  # of x.tar, 0.9 are its members
        _refused(cut, "it is damaged, cut short, or no .tar or .zip archive")


def _refused(archive: Path, reason: str) -> None:
    room = archive.parent / "room"
    with pytest.raises(BrickyardError) as error:
        archives.unpack(archive, room / "out")
    assert str(error.value).startswith(f"{archive} cannot be unpacked: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert list(room.iterdir()) == []


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "x.tar")
    content = bytearray(archive.read_bytes())
    content[content.index(b"pets/cat/4.png")] ^= 1
    archive.write_bytes(content)
    _refused(archive, "damaged")


def _entry(name: str, **what: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in what.items():
        setattr(member, key, value)
    return member


def _tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    """A tar of these members; what is a file holds zeros."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def _link_chain(path: Path) -> Path:
    """A tar whose chain of links, longer than a path may be, misleads tarfile's own filter (CVE-2025-4517)."""
    steps, long, inner = "abcdefghijklmnop", "d" * 247, ""
    members: list[tarfile.TarInfo] = []
    for step in steps:
        members.append(_entry(inner + long, type=tarfile.DIRTYPE, mode=0o755))
        members.append(_entry(inner + step, type=tarfile.SYMTYPE, linkname=long))
        inner += long + "/"
    top = "/".join(steps) + "/" + "l" * 254
    members.append(_entry(top, type=tarfile.SYMTYPE, linkname="../" * len(steps)))
    members.append(_entry("escape", type=tarfile.SYMTYPE, linkname=f"{top}/../../victim"))
    members.append(_entry("flag", type=tarfile.LNKTYPE, linkname="escape/flag"))
    return _tar_of(path, *members, _entry("flag", size=9), _entry("escape/new", size=9))


def _zip_member(path: Path, name: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "../../secret")
    return path


def _link(path: Path, kind: bytes, linkname: str) -> Path:
    return _tar_of(path, _entry("cat/1.png", size=9), _entry("cat/2.png", type=kind, linkname=linkname))


def _huge_tar(path: Path) -> Path:
    member = tarfile.TarInfo("cat/x.png")
    member.size = 2**60
    path.write_bytes(member.tobuf() + bytes(1024))
    return path


def _text(path: Path) -> Path:
    path.write_text("no archive")
    return path


HOSTILE: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "outside": ("x.tar", lambda path: _tar(path, "w", **{"../x.png": b""}), "outside"),
    "back outside": ("x.tar", lambda path: _tar(path, "w", **{"cat/../../x.png": b""}), "outside"),
    "link": ("x.tar", lambda path: _link(path, tarfile.SYMTYPE, "1.png"), "(tar --dereference): 'cat/2.png'"),
    "link outside": ("x.tar", lambda path: _link(path, tarfile.SYMTYPE, "../../x"), "symbolic links are refused"),
    "absolute link": ("x.tar", lambda path: _link(path, tarfile.SYMTYPE, "/etc/passwd"), "symbolic links are refused"),
    "chain of links": ("x.tar", _link_chain, "symbolic links are refused"),
    "hard link outside": ("x.tar", lambda path: _link(path, tarfile.LNKTYPE, "../../x"), "'cat/2.png' to '../../x'"),
    "absolute hard link": ("x.tar", lambda path: _link(path, tarfile.LNKTYPE, "/etc/passwd"), "packed before"),
    "hard link to nothing": ("x.tar", lambda path: _link(path, tarfile.LNKTYPE, "cat/3.png"), "packed before"),
    "hard link to itself": ("x.tar", lambda path: _link(path, tarfile.LNKTYPE, "cat/2.png"), "packed before"),
    "hard link to a folder": ("x.tar", lambda path: _link(path, tarfile.LNKTYPE, "cat"), "packed before"),
    "file as a folder": (
        "x.tar",
        lambda path: _tar(path, "w", cat=b"", **{"cat/a/x.png": b""}),
        "'cat', which is no folder",
    ),
    "device": ("x.tar", lambda path: _tar_of(path, _entry("x", type=tarfile.CHRTYPE)), "special file"),
    "pipe": ("x.tar", lambda path: _tar_of(path, _entry("x", type=tarfile.FIFOTYPE)), "special file"),
    "huge": ("x.tar", _huge_tar, "exceeds the room on the disk"),
    "zip outside": ("x.zip", lambda path: _zip_member(path, "../x.png"), "outside"),
    "zip absolute": ("x.zip", lambda path: _zip_member(path, "/x.png"), "outside"),
    "zip drive": ("x.zip", lambda path: _zip_member(path, "C:\\x.png"), "outside"),
    "zip link": ("x.zip", lambda path: _zip_member(path, "x.png", stat.S_IFLNK | 0o777), "a link or a device"),
    "text": ("x.tar", lambda path: _text(path), "no .tar or .zip archive"),
    "tar named zip": ("x.zip", lambda path: _tar(path), "no .tar or .zip archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_an_archive_must_not_hold(case: str, tmp_path: Path) -> None:
    name, write, reason = HOSTILE[case]
    victim = tmp_path / "victim" / "flag"
    victim.parent.mkdir()
    victim.write_text("untouched")
    _refused(write(tmp_path / name), reason)
    assert [*victim.parent.iterdir()] == [victim]
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("linkname", ["cat/1.png", "./cat/1.png"])
def test_hard_links_to_files_of_the_archive_are_files(linkname: str, tmp_path: Path) -> None:
    archives.unpack(_link(tmp_path / "x.tar", tarfile.LNKTYPE, linkname), tmp_path / "out")
    assert [(tmp_path / "out" / "cat" / name).read_bytes() for name in ("1.png", "2.png")] == [bytes(9)] * 2


def test_nothing_is_written_through_a_folder_that_is_a_link(tmp_path: Path) -> None:
    partial = tmp_path / "room" / f".out.{os.getpid()}"
    (partial / "dog").mkdir(parents=True)
    (partial / "cat").symlink_to("dog")
    _refused(_tar(tmp_path / "x.tar", "w", **{"cat/x.png": b""}), "'cat', which is no folder")


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    for number in (killed.pid, os.getppid()):
        (tmp_path / "room" / f".out [1].{number}" / "half").mkdir(parents=True)
    archives.unpack(_tar(tmp_path / "x.tar"), tmp_path / "room" / "out [1]")
    assert {child.name for child in (tmp_path / "room").iterdir()} == {"out [1]", f".out [1].{os.getppid()}"}


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("Gar\xe7on.png"))
    archives.unpack(tmp_path / "x.tar", tmp_path / "tar")
    assert [os.fsencode(file.name) for file in (tmp_path / "tar").iterdir()] == [b"Gar\xe7on.png"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("xx.png", "")
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes().replace(b"xx", "é".encode()))  # as macOS does
    archives.unpack(tmp_path / "x.zip", tmp_path / "zip")
    assert [file.name for file in (tmp_path / "zip").iterdir()] == ["é.png"]
