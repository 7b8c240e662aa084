"""List and classify every file below a source folder: picture, caption, or why it is neither."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylelora.data.reading import SUFFIXES
from stylelora.records import InputError
from stylelora.texts import SPECIAL, check_is_folder, printable

CAPTION_SUFFIXES = frozenset({".txt", ".caption"})
LISTINGS = frozenset({"metadata.jsonl", "metadata.csv"})

#: Files that operating systems leave behind, in lower case; besides "._x", the resource fork of x.
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
#: Folders of thumbnails and resource forks, whose pictures would be duplicates.
SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir"})
#: Documents that accompany pictures, such as licences.
_PAPERS = re.compile(r"(?<![a-z])(licen[cs]e|readme|credits|copying|notice|attribution)", re.I)
_PAPER_SUFFIXES = frozenset({"", ".txt", ".md", ".rst", ".html", ".pdf"})


@dataclass(frozen=True)
class Found:
    """One entry below a source folder.

    Attributes:
        path: path relative to the source folder.
        kind: "picture" or "caption", judged by the name only; otherwise "ignored" if it is surely irrelevant, or
            "skipped" if the user may have meant to include it.
        reason: why it is skipped or ignored, one clause; empty for pictures and captions.
    """

    path: Path
    kind: Literal["picture", "caption", "skipped", "ignored"]
    reason: str = ""


def find_files(folder: Path | str) -> list[Found]:
    """List every file below a folder, and every folder that is not searched.

    Symlinks to files are followed. Symlinks to folders are not, so that the walk always terminates.

    Args:
        folder: the folder; may itself be a symlink.

    Returns:
        entries sorted by relative path.

    Raises:
        InputError: if the folder is missing, unreadable or empty.
    """
    folder = Path(folder)
    check_is_folder(folder, "the folder")
    found: list[Found] = []
    folders = [folder]
    while folders:
        inside = folders.pop()
        try:
            with os.scandir(inside) as opened:
                entries = list(opened)
        except OSError as error:
            found.append(Found(inside, "skipped", f"folder that cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            path = inside / entry.name
            if not entry.is_dir(follow_symlinks=False):
                found.append(_verdict(path))
            elif entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                found.append(Found(path, "ignored", "hidden or system folder, not searched"))
            else:
                folders.append(path)
                if path.suffix.lower() in SUFFIXES:
                    found.append(Found(path, "ignored", "a folder that is named like a picture; its files are listed"))
    if not found:
        raise InputError(f"the folder {printable(folder)} is empty; put pictures there or give another folder")
    if found[0].path == folder:
        raise InputError(f"{printable(folder)} is a {found[0].reason}; give another")
    return sorted(found, key=lambda one: one.path.relative_to(folder).as_posix())


def is_paper(path: Path) -> bool:
    """Return whether a file name is that of a licence, a readme or the like."""
    return path.suffix.lower() in _PAPER_SUFFIXES and _PAPERS.search(path.name) is not None


def _verdict(path: Path) -> Found:
    """Classify a non-folder; symlinks by their target."""
    name, suffix = path.name.lower(), path.suffix.lower()
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        what = "broken symlink" if path.is_symlink() else "file that cannot be accessed"
        return Found(path, "skipped", f"{what} ({error.strerror})")
    if name in SYSTEM_FILES or name.startswith("._"):
        return Found(path, "ignored", "system file")
    if name.startswith("."):
        return Found(path, "ignored", "hidden file")
    if kind == stat.S_IFDIR:
        return Found(path, "skipped", "symlink to a folder, which is not followed")
    if kind != stat.S_IFREG:
        return Found(path, "skipped", f"{SPECIAL.get(kind, 'neither file nor folder')}, not a file")
    if any("\ud800" <= letter <= "\udfff" for letter in path.name):  # surrogate escapes: bytes that are not UTF-8
        return Found(path, "skipped", "its name is not UTF-8; rename it")
    if suffix in SUFFIXES:
        return Found(path, "picture")
    if suffix in CAPTION_SUFFIXES or name in LISTINGS:
        return Found(path, "caption")
    reason = (
        f"{suffix} is not supported; save pictures as PNG or JPEG" if suffix else "has no suffix that tells its type"
    )
    return Found(path, "ignored" if is_paper(path) else "skipped", reason)
