"""Scanning and splitting a folder of captioned pictures."""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import ExifTags, Image

from stylelora.data.captions import clean
from stylelora.data.folders import Described, Subset, find_subsets, read_captions
from stylelora.data.reading import LONGEST, MOST_PIXELS, TooLarge, check_size, open_picture, picture_bytes
from stylelora.data.unicode import plain
from stylelora.data.wording import alternatives, has_alternatives
from stylelora.records import InputError, Picture
from stylelora.texts import read_json

log = logging.getLogger(__name__)

#: Report that `preprocess` writes beside the pictures, and the marker that identifies it.
CENSUS = "census.json"
WRITTEN_BY = "stylelora preprocess 1"  # stored in the census, so that a foreign file is not mistaken for one
MOST_LICENCE = 2**16  # letters of a licence that are read for its first line
SETTINGS = ("trigger", "interpolation", "kernel", "template")  # texts that training takes from it


def read_census(folder: Path) -> dict | None:
    """Read the census of a finished `preprocess` run; None if there is none.

    Raises:
        InputError: if it was changed to what `preprocess` does not write.
    """
    file = folder / CENSUS
    if not os.path.lexists(file):
        return None
    try:
        census = read_json(file)
    except InputError as error:
        log.warning("%s; what it says is not used", error)
        return None
    if not isinstance(census, dict) or census.get("written_by") != WRITTEN_BY:
        return None
    settings = census.setdefault("settings", {})
    if not isinstance(settings, dict) or any(not isinstance(settings.get(one, ""), str | None) for one in SETTINGS):
        raise InputError(f"{file} has settings that preprocess does not write; run it again, or remove the file")
    if "kernel" in settings:  # old name of interpolation
        settings["interpolation"] = settings.pop("kernel")
    return census


def stated_licence(folder: Path) -> str:
    """Return the first line of a folder's licence file, such as LICENSE.txt; empty if there is none."""
    for file in filter(Path.is_file, sorted(folder.glob("LICEN[CS]E*"))):
        with file.open(encoding="utf-8", errors="replace") as opened:
            return (opened.read(MOST_LICENCE).strip().splitlines() or [""])[0].strip()
    return ""


def scan_folder(folder: Path | str, wildcards: bool = False, trigger: str = "") -> list[Picture]:
    """Find the captioned pictures of a folder, or of kohya's folders `N_name` in it, which show each picture N times.

    Captions come from `metadata.jsonl` if present, else from a `.txt` or `.caption` file per picture; of pictures in
    folders `N_name` without either, the caption is `name`. Files are read but not decoded, since decoding large sets
    takes minutes: see `check_decodable`.

    Args:
        folder: folder to scan.
        wildcards: whether captions stand for several, as of `alternatives`.
        trigger: trigger word, left out of `name`.

    Returns:
        pictures sorted by folder and file name.

    Raises:
        InputError: if the folder is missing or empty, or files are not pictures or have no caption; names all of them.
    """
    folder = Path(folder)
    found = [picture for part in find_subsets(folder) for picture in _described(part, trigger)]
    if without := [_below(folder, part.folder / name) for part, name, said in found if not said.texts]:
        raise InputError(
            f"{len(without)} of {len(found)} pictures in {folder} have no caption ({_some(without)}); add a line to "
            "metadata.jsonl or a .txt file beside each"
        )
    if not wildcards and (count := sum(any(map(has_alternatives, said.texts)) for _, _, said in found)):
        log.warning(
            "%d captions in %s have several lines or {this|that} and are trained on as they are; for one of them at a "
            "time give --data.wildcards true",
            *(count, folder),
        )
    if wildcards:
        found = [
            (part, name, said._replace(texts=tuple(one for text in said.texts for one in alternatives(text))))
            for part, name, said in found
        ]
    return read_pictures(folder, found)


def read_pictures(folder: Path, described: Iterable[tuple[Subset, str, Described]]) -> list[Picture]:
    """Read files for their hash and size; one without captions has an empty text.

    Args:
        folder: the data folder, for messages.
        described: the pictures' folders and names, and what is written about them.

    Raises:
        InputError: if files are not pictures; names all of them.
    """
    pictures, unreadable, large, sizes = [], [], [], {}
    for part, name, said in described:
        try:
            data = picture_bytes(part.folder / name)
            size = upright_size(data)
            check_size(*size)
            size = sizes.setdefault(size, size)  # share equal tuples to save memory
        except (TooLarge, Image.DecompressionBombError):
            large.append(_below(folder, part.folder / name))
        except (OSError, SyntaxError, ValueError, struct.error):
            unreadable.append(_below(folder, part.folder / name))
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            text, *more = said.texts or [""]
            repeats = part.repeats * said.repeats
            pictures.append(Picture(part.folder, name, text, sha256, said.group or sha256, size, tuple(more), repeats))
    _refuse(folder, unreadable)
    if large:
        raise InputError(
            f"{len(large)} pictures in {folder} have more than {MOST_PIXELS} pixels, or {LONGEST} on a side "
            f"({_some(large)}); make them smaller or remove them"
        )
    return pictures


def _described(part: Subset, trigger: str) -> list[tuple[Subset, str, Described]]:
    """Return a folder's pictures with what is written about each, and no texts where there is nothing."""
    captions, nothing = read_captions(part), Described(())
    found = [(part, name, captions.get(name, nothing)) for name in part.names]
    found = [(part, name, said if any(said.texts) else said._replace(texts=())) for part, name, said in found]
    if not part.token or all(said.texts for _, _, said in found):
        return found
    token = clean(part.token.replace("_", " "), trigger=trigger) if trigger else plain(part.token)
    bare = sum(not said.texts for _, _, said in found)
    theirs = f"they get {token!r}, by the folder's name" if token else "theirs is the trigger, by the folder's name"
    log.warning("%d of %d pictures in %s have no caption; %s", bare, len(found), part.folder, theirs)
    return [(part, name, said if said.texts else said._replace(texts=(token,))) for part, name, said in found]


def check_decodable(folder: Path, pictures: Iterable[Picture]) -> None:
    """Check that pictures decode, since a file with a valid header may still be truncated or damaged.

    Args:
        folder: their folder, for the message.
        pictures: pictures never decoded before, that is, without cached latents.

    Raises:
        InputError: if some cannot be decoded; names all of them.
    """
    unreadable = []
    for picture in pictures:
        try:
            open_picture(picture.path)
        except InputError:
            unreadable.append(_below(folder, picture.path))
    _refuse(folder, unreadable)


def _refuse(folder: Path, unreadable: list[str]) -> None:
    if unreadable:
        raise InputError(
            f"{len(unreadable)} pictures in {folder} cannot be read ({_some(unreadable)}); replace or remove them"
        )


def upright_size(data: bytes) -> tuple[int, int]:
    """Return width and height after `open_picture`, from the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        # Use the base class's method: PNG's own would decode the picture to look for EXIF after the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        turned = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # for TIFF Pillow has already swapped the sides
        return (image.height, image.width) if turned else image.size


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def content_hash(pictures: Sequence[Picture]) -> str:
    """Hash the picture contents, independent of order, names and captions."""
    return hashlib.sha256("\n".join(sorted(picture.sha256 for picture in pictures)).encode()).hexdigest()


def choose_pictures(pictures: Sequence[Picture], count: int, seed: int) -> list[Picture]:
    """Choose some pictures by their content: more include fewer, and neither order nor names matter.

    Args:
        pictures: those to choose from.
        count: how many.
        seed: another one chooses others.

    Returns:
        the chosen ones, in the order of `pictures`.
    """
    ranked = sorted(pictures, key=lambda picture: hashlib.sha256(f"{seed} {picture.sha256}".encode()).digest())
    chosen = {picture.path for picture in ranked[:count]}
    return [picture for picture in pictures if picture.path in chosen]


def split_by_content(pictures: list[Picture], held_out: float) -> tuple[list[Picture], list[Picture]]:
    """Split pictures into training and held-out sets by content hash.

    Pictures with the smallest hashes are held out. A picture keeps its side when others are added, renamed or removed,
    except where a side would have fewer than two; then that side gets those whose hashes are next. Identical files, and
    near-duplicates found by `preprocess`, always land on the same side.

    Args:
        pictures: all pictures.
        held_out: expected share of held-out pictures, 0 to below 1; 0: none at all.

    Raises:
        InputError: if there are too few pictures for two on either side.
    """
    if not held_out:
        return list(pictures), []
    groups = sorted(Counter(picture.group for picture in pictures).items())
    sums = list(itertools.accumulate((count for _, count in groups), initial=0))  # pictures in the first n groups
    possible = [n for n, below in enumerate(sums) if 2 <= below <= len(pictures) - 2]
    if not possible:
        alike = f" in {len(groups)} groups of near-duplicates" if len(groups) < len(pictures) else ""
        raise InputError(
            f"{len(pictures)} pictures{alike} are too few to train on two and hold out two others; give at least four "
            "different ones, or held_out 0 to train on all"
        )
    wanted = sum(int(group[:8], 16) < round(held_out * 16**8) for group, _ in groups)
    chosen = {group for group, _ in groups[: min(possible, key=lambda n: abs(n - wanted))]}
    held = [picture for picture in pictures if picture.group in chosen]
    return [picture for picture in pictures if picture.group not in chosen], held
