"""Archives of images: unpacked whole into a folder, or refused in one line with nothing left behind."""

import errno
import glob
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from ..base.errors import BrickyardError
from .picture import shown


def unpack(archive: Path, target: Path) -> None:
    """Unpacks a tar (plain, gz, bz2 or xz) or zip archive to the new folder `target`; an existing one is kept.

    Refused are members outside the folder, symbolic links, hard links to anything but the archive's own files, devices,
    more bytes than the disk has room for, and an archive that is damaged or ends too early; BrickyardError then, and
    `target` is not made.
    """
    if target.is_dir():
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    _remove_stale(partial)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(partial).free
        (_unzip if archive.name.lower().endswith(".zip") else _untar)(archive, partial, room)
        partial.replace(target)
    except Exception as error:  # whatever a damaged archive leads to
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if not target.is_dir():  # else another process was quicker
            raise BrickyardError(f"{shown(archive)} cannot be unpacked: {_reason(error)}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_stale(partial: Path) -> None:
    """Removes what processes that were killed have left beside `partial`, whose name ends with this one's number."""
    for left in partial.parent.glob(f"{glob.escape(partial.stem)}.*"):
        number = left.suffix[1:]
        try:
            os.kill(int(number) if number.isdecimal() else os.getpid(), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (PermissionError, OverflowError):  # someone else's, or no process at all
            continue


def _reason(error: Exception) -> str:
    if isinstance(error, tarfile.ReadError | zipfile.BadZipFile | EOFError) or not str(error):
        return "it is damaged, cut short, or no .tar or .zip archive"
    return " ".join(str(error).split())[:200]


def _untar(archive: Path, folder: Path, room: int) -> None:
    files: set[str] = set()
    with tarfile.open(archive) as opened:
        for member in opened:
            room = _less(room, member.size if member.isreg() else 0)
            name = PurePosixPath(member.name.lstrip("/"))
            _refuse_links(member, name, folder, files)
            opened.extract(member, folder, filter="data")
            if not member.isdir():
                files.add(str(name))
        file = opened.fileobj
        if file is None:
            return
        file.seek(opened.offset)  # reading stops without a word at a damaged header, too: the end has its own mark
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError
        while file.read(1 << 20):  # up to the checksum of what is compressed
            pass


def _refuse_links(member: tarfile.TarInfo, name: PurePosixPath, folder: Path, files: set[str]) -> None:
    """Refuses a member that is a link to anything but `files`, or that lies below a link.

    tarfile's own filter lets links pass that it takes to stay in the folder, and a long chain misleads it
    (CVE-2025-4517).
    """
    if member.issym():
        raise BrickyardError(
            f"symbolic links are refused, pack what they lead to instead (tar --dereference): {member.name!r}"
        )
    if member.islnk() and str(PurePosixPath(member.linkname)) not in files:
        raise BrickyardError(
            f"a hard link must lead to a file packed before it in the archive: {member.name!r} to {member.linkname!r}"
        )
    for parent in name.parents:
        if (folder / parent).is_symlink() or (folder / parent).is_file():
            raise BrickyardError(f"{member.name!r} lies in {str(parent)!r}, which is no folder")


def _unzip(archive: Path, folder: Path, room: int) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            room = _less(room, member.file_size)
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts[:1]):
                raise BrickyardError(f"{member.filename!r} would lie outside its folder")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BrickyardError(f"{member.filename!r} is a link or a device")
            member.filename = _decoded(member)
            opened.extract(member, folder)


def _decoded(member: zipfile.ZipInfo) -> str:
    """The name of a member; macOS writes UTF-8 without saying so."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def _less(room: int, size: int) -> int:
    if size > room:
        raise BrickyardError(f"what it says to hold ({size:,} bytes and more) exceeds the room on the disk")
    return room - size
