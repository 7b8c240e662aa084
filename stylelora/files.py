"""Files that are written whole or not at all, and always with the same bytes for the same content.

A file is written under another name in its own folder, so that moving it into place is one step of one file system: a
kill, a full disk or a quota leaves the earlier file of that name, or none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stylelora.records import InputError

if TYPE_CHECKING:
    from torch import Tensor

#: End of the names of files and folders that are being written.
PARTIAL = ".partial"

#: Errors of the operating system -> what is wrong, followed by the path; and what to do.
_REASONS = {
    errno.ENOSPC: ("the disk is full: cannot write {}", "make room, or write elsewhere"),
    errno.EDQUOT: ("your quota is used up: cannot write {}", "make room, or write elsewhere"),
    errno.EFBIG: ("{} would be larger than a file may be here", "see `ulimit -f`, or write elsewhere"),
    errno.EROFS: ("{} is on a file system that cannot be written", "write elsewhere"),
    errno.EACCES: ("access to {} is denied", "change its permissions, or give another"),
    errno.EPERM: ("access to {} is denied", "change its permissions, or give another"),
    errno.EMFILE: ("too many files are open: cannot open {}", "raise the limit with `ulimit -n 4096`"),
    errno.ENFILE: ("too many files are open on this machine: cannot open {}", "close other programs"),
    errno.ENAMETOOLONG: ("the name of {} is too long", "give a shorter one"),
    errno.EIO: ("the disk of {} does not work as it should", "check it, and write elsewhere"),
    errno.ESTALE: ("the network drive of {} was lost", "mount it again"),
    errno.ENOENT: ("{} does not exist, or has been removed meanwhile", "check the path"),
    errno.ENOTDIR: ("a folder above {} is a file", "give another path"),
    errno.EEXIST: ("{} is there already", "remove it, or give another path"),
    errno.EISDIR: ("{} is a folder", "give the path of a file"),
    errno.ENOTEMPTY: ("{} is a folder with something in it", "remove it, or give another path"),
    errno.ELOOP: ("{} is a link that leads back to itself", "give another path"),
    errno.EBUSY: ("{} is in use", "close what uses it, or give another path"),
}


#: Errors that say nothing of the file in question, but of the machine.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EROFS, errno.ESTALE}


def is_of_the_machine(error: BaseException) -> bool:
    """Tell whether any other file could have met with an error, too, so that this one is not to blame."""
    nowhere = isinstance(error, FileNotFoundError) and error.filename is None  # for temporary files
    return isinstance(error, OSError) and (error.errno in _OF_THE_MACHINE or nowhere)


def reason(error: OSError) -> str | None:
    """Return one sentence about what the operating system refused, with the path; None if nobody can act on it."""
    if error.errno not in _REASONS:
        return None
    if error.errno == errno.ENOENT and error.filename is None:  # tempfile's, of all folders that it knows
        return f"{error.strerror}; make room in one of them, or name another with TMPDIR"
    wrong, help_ = _REASONS[error.errno]
    return f"{wrong.format(error.filename or 'a file')}; {help_}"


@contextlib.contextmanager
def about(path: Path | str) -> Iterator[None]:
    """Name a path in errors of the operating system that name none, or one that is only being written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or PARTIAL in str(error.filename)):
            error.filename = str(path)
            if error.filename2 is not None:
                del error.filename2
        raise


@contextlib.contextmanager
def replacing(path: Path | str, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file, in place of an older one, when the block has ended without an error; folders above it are made.

    Args:
        path: file to write; after an error or a kill it is as before.
        sync: wait for the disk, so that a power cut leaves one or the other, too.

    Raises:
        OSError: with the path, whatever it was that failed.
    """
    path = Path(path)
    with about(path), _made(path.parent):
        partial = _beside(path)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        if sync:
            _sync_folder(path.parent)


def write(path: Path | str, content: str | bytes, sync: bool = True) -> None:
    """Write a text, in UTF-8, or bytes; as of `replacing`."""
    content = content.encode() if isinstance(content, str) else content  # before an older file is touched
    with replacing(path, sync) as file:
        file.write(content)


def check_local(path: Path | str) -> Path:
    """Return a path, unless it is one of another machine.

    Raises:
        InputError: for a URL, or what fsspec takes for one, such as s3:// or zip::.
    """
    if found := re.match(r"[A-Za-z][\w+.-]+:(?=/|:)", str(path)):
        raise InputError(
            f"{path} begins with {found.group()}, so it is no local file; copy it to this machine, and give its "
            "path there"
        )
    return Path(path)


def check_writable(path: Path | str) -> None:
    """Try whether a file can be written, before the work that it is for.

    Raises:
        OSError: with the path, if it cannot.
    """
    path = Path(path)
    with about(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # refuses a name that is too long
        with _made(path.parent, keep=False):
            partial = _beside(path)
            try:
                partial.write_bytes(b"\0")  # a full disk may have room for names
            finally:
                partial.unlink(missing_ok=True)


def append(path: Path | str, text: str) -> None:
    """Append to a log; after an error it is as before."""
    with about(path), Path(path).open("ab", buffering=0) as file:  # unbuffered: else closing would write once more
        size, left = file.tell(), memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise


@contextlib.contextmanager
def new_folder(path: Path, among_others: bool = False) -> Iterator[Path]:
    """Fill a new folder, which is there when the block has ended without an error.

    Args:
        path: the folder.
        among_others: it may be there already; each of its new files then takes its place beside the others.

    Raises:
        OSError: with the path, whatever it was that failed.
    """
    with about(path), _made(path.parent):
        partial = _beside(path)
        try:
            partial.mkdir()
            yield partial
            if not among_others:
                os.replace(partial, path)
            for file in files_below(partial) if among_others else ():
                target = path / file.relative_to(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and its folders, sorted; links to folders are not followed.

    Raises:
        OSError: if a folder cannot be read; `rglob` would leave it out.
    """

    def stop(error: OSError) -> None:
        raise error

    return sorted(Path(root, name) for root, _, names in os.walk(folder, onerror=stop) for name in names)


def remove_abandoned(folder: Path, pattern: str = "*", older: float = 3600) -> None:
    """Delete what processes that were killed while writing left in a folder.

    Args:
        folder: folder to look into.
        pattern: of the names; `*/*/*` looks into sub-folders of sub-folders.
        older: age in seconds; writing takes seconds at most.
    """
    for path in folder.glob(f"{pattern}{PARTIAL}"):
        with contextlib.suppress(OSError):  # another process may delete it, too
            if path.is_file() and path.stat().st_mtime < time.time() - older:
                path.unlink()


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file, the same for the same tensors and metadata.

    The library's own writer puts the metadata in another order each time.

    Args:
        tensors: tensors on the CPU.
        metadata: entries of the header.
    """
    from safetensors.torch import save

    content = save({name: tensors[name].contiguous() for name in sorted(tensors)})
    size = int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    header |= json.loads(content[8 : 8 + size])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8, as the format asks
    return b"".join([len(text).to_bytes(8, "little"), text, content[8 + size :]])


@contextlib.contextmanager
def _made(folder: Path, keep: bool = True) -> Iterator[None]:
    """Make a folder, and those above it; after an error those that were not there are gone again."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        keep = False
        raise
    finally:
        for one in () if keep else missing:
            with contextlib.suppress(OSError):  # another process may have filled it
                one.rmdir()


def _beside(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")  # short: the name itself may be as long as names may be


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows, and some network drives, cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
