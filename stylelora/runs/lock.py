"""One owner for each run folder: two runs never write into the same one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from stylelora.files import check_local
from stylelora.records import InputError

#: The lock, and who holds it, in a file of its own since Windows lets nobody read a locked one. Both go with the run.
LOCK, OWNER = ".lock", ".owner.json"
PATIENCE = 0.2  # seconds; another run may be removing its lock just now


@contextlib.contextmanager
def owned(folder: Path | str, rank: int = 0) -> Iterator[None]:
    """Own the folder of a run, which is made if need be, within the block.

    The operating system releases the lock of a process that dies, however it does. A folder that was made for the run
    and is still empty at the end is removed.

    Args:
        folder: folder of the run.
        rank: number of this process among those of the run; the first owns it for all.

    Raises:
        InputError: if another run owns it, or nobody can write there.
    """
    from filelock import FileLock, Timeout

    if rank:
        yield
        return
    folder = check_local(folder)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=PATIENCE, poll_interval=PATIENCE / 4)
    except Timeout:
        raise InputError(_taken(folder)) from None
    except OSError as error:
        _remove_empty(made)
        raise InputError(
            f"the folder {folder} cannot be written to ({error.strerror or error}); name another with "
            "--trainer.default_root_dir"
        ) from error
    try:
        with contextlib.suppress(OSError):  # it only helps a person
            (folder / OWNER).write_text(json.dumps(_ourselves()) + "\n", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
            if os.name != "nt":  # there an open file cannot be removed; filelock does so after the release
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # what is not empty stays, and what holds it
        for folder in folders:
            folder.rmdir()


def check_free(folder: Path) -> None:
    """Refuse a folder that has the folder of a running run inside, such as that of its test.

    Raises:
        InputError: if so.
    """
    for file in folder.glob(f"*/{LOCK}"):
        if is_taken(file.parent):
            raise InputError(_taken(file.parent))


def is_taken(folder: Path) -> bool:
    """Return whether a run that is going on owns a folder."""
    from filelock import FileLock, Timeout

    if not (folder / LOCK).exists():
        return False
    try:
        FileLock(folder / LOCK).acquire(timeout=PATIENCE).lock.release()
    except Timeout:
        return True
    return False


def _ourselves() -> dict[str, str | int]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _taken(folder: Path) -> str:
    """Return a sentence about who owns a folder."""
    try:
        who = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        who = f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or is just ending
        who = "which has not said who it is"
    return (
        f"{folder} belongs to a run that is still going ({who}); wait until it ends, or name another folder with "
        "--trainer.default_root_dir"
    )
