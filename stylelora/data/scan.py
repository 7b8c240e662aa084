"""A folder of pictures and captions on disk."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import ExifTags, Image

from stylelora.data.captions import read_text
from stylelora.data.reading import SUFFIXES, open_picture
from stylelora.records import InputError, Picture

#: What `preprocess` leaves beside the pictures, and how it can be told from somebody else's file.
CENSUS = "census.json"
WRITTEN_BY = "stylelora preprocess 1"  # in a census, so that nobody else's file is taken for one


def read_census(folder: Path) -> dict | None:
    """Return a finished run's census; None if there is none that `preprocess` wrote."""
    try:
        census = json.loads((folder / CENSUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(census, dict) or census.get("written_by") != WRITTEN_BY:
        return None
    if "kernel" in census["settings"]:  # what interpolation was called at first
        census["settings"]["interpolation"] = census["settings"].pop("kernel")
    return census


def scan_folder(folder: Path | str) -> list[Picture]:
    """Find the captioned pictures of a folder.

    Captions come from `metadata.jsonl` (`file_name`, `text`) if there is one, else from a `.txt` beside each picture.
    Pictures are read but not decoded, which for large sets takes minutes: see `check_decodable`.

    Args:
        folder: the folder.

    Returns:
        pictures by file name.

    Raises:
        InputError: if the folder is missing or empty, or a file is no picture or has no caption. All such files are
            named at once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} does not exist")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not names:
        raise InputError(f"the data folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    captions, groups = read_captions(folder, names)
    without = [name for name in names if not captions.get(name, "").strip()]
    if without:
        raise InputError(
            f"{len(without)} of {len(names)} pictures in {folder} have no caption ({_some(without)}); add a line to "
            "metadata.jsonl or a .txt file beside each"
        )
    pictures, unreadable, sizes = [], [], {}
    for name in names:
        try:
            data = (folder / name).read_bytes()
            size = _upright_size(data)
            size = sizes.setdefault(size, size)  # pictures of one size share it, which saves memory
        except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
            unreadable.append(name)
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            group = groups.get(name, sha256)
            pictures.append(Picture(folder, name, captions[name].strip(), sha256, group, size))
    _refuse(folder, unreadable)
    return pictures


def check_decodable(folder: Path, pictures: Iterable[Picture]) -> None:
    """Decode pictures, since a file may be truncated or damaged behind a sound header.

    Args:
        folder: where they are, for the message.
        pictures: those that have never been decoded; of the others the cache has latents.

    Raises:
        InputError: if some cannot be decoded; all are named at once.
    """
    unreadable = []
    for picture in pictures:
        try:
            open_picture(picture.path)
        except InputError:
            unreadable.append(picture.name)
    _refuse(folder, unreadable)


def _refuse(folder: Path, unreadable: list[str]) -> None:
    if unreadable:
        raise InputError(
            f"{len(unreadable)} pictures in {folder} cannot be read ({_some(unreadable)}); replace or remove them"
        )


def _upright_size(data: bytes) -> tuple[int, int]:
    """Return width and height as they will be after `open_picture`, from the header."""
    with Image.open(io.BytesIO(data)) as image:
        # The method of the base class: that of PNG would decode the picture to look for EXIF behind the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        turned = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # whose size Pillow has turned already
        return (image.height, image.width) if turned else image.size


def read_captions(folder: Path, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return file name -> caption, and file name -> group of near-duplicates for those that have one."""
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        beside = ((name, (folder / name).with_suffix(".txt")) for name in names)
        return {name: read_text(path) for name, path in beside if path.is_file()}, {}
    captions, groups = {}, {}
    for number, line in enumerate(read_text(listing).split("\n"), start=1):  # splitlines ends a line at U+2028, too
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            captions[row["file_name"]] = row["text"] + ""  # a TypeError unless it is a text
            if "group" in row:
                groups[row["file_name"]] = f"{int(row['group'], 16):064x}"
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f'{listing} line {number} is not {{"file_name": ..., "text": ...}}') from error
    lost = sorted(set(captions) - set(names))
    if lost:
        raise InputError(f"{listing} names {len(lost)} missing pictures ({_some(lost)})")
    return captions, groups


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def content_hash(pictures: Sequence[Picture]) -> str:
    """Return a hash of the contents of pictures, whatever their order, names and captions."""
    return hashlib.sha256("\n".join(sorted(picture.sha256 for picture in pictures)).encode()).hexdigest()


def split_by_content(pictures: list[Picture], held_out: float) -> tuple[list[Picture], list[Picture]]:
    """Divide pictures into training and held-out ones by the hash of their content.

    A picture stays on its side whatever is added, renamed or removed; equal files are always on one side, and so are
    the near-duplicates that `preprocess` has found.

    Args:
        pictures: all of them.
        held_out: expected share of held-out pictures, 0..1.

    Raises:
        InputError: if either side has fewer than two pictures.
    """
    below = round(held_out * 16**8)
    held = [picture for picture in pictures if int(picture.group[:8], 16) < below]
    train = [picture for picture in pictures if int(picture.group[:8], 16) >= below]
    if len(held) < 2 or len(train) < 2:
        raise InputError(
            f"{len(pictures)} pictures split into {len(train)} for training and {len(held)} held out, but each needs "
            f"at least 2; add pictures or change held_out"
        )
    return train, held
