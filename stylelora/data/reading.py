"""Read any picture as upright, opaque, 8-bit sRGB, and note every change made."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
import threading
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from stylelora.data.srgb import eight_bits, lay_on, opaque_colour, to_srgb
from stylelora.files import is_of_the_machine
from stylelora.records import InputError
from stylelora.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import ImageFile

#: Supported formats: Pillow's name -> file suffixes.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # a JPEG followed by more images, as phones write
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}

#: All picture suffixes, in lower case.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: Most pixels of a picture, and most on a side. Pillow itself rejects more than 179 million.
MOST_PIXELS = 2**27
LONGEST = 2**16

#: EXIF orientation (EXIF 2.32, tag 0x0112) -> operation that makes the picture upright; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Standard luminance table of JPEG (ITU-T T.81, table K.1), row by row.
_LUMINANCE = np.array(
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 18 22 37 56 68 "
    "109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99".split(),
    dtype=int,
)

#: TIFF's PhotometricInterpretation; 0: white is 0, which Pillow inverts for up to 8 bits only.
_PHOTOMETRIC = 262

#: Messages of libjpeg and libtiff about lost pixels, which they fill in without failing.
_LOST = re.compile(r"remature end|bad \w+ code|instead of RST|Decode\w*:")

#: Warnings and stderr are captured per process, so each process decodes one picture at a time.
_decoding = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """A decoded picture, and what was changed to get it.

    Attributes:
        image: RGB, 8 bit, sRGB, upright, without metadata.
        sha256: hash of the file's bytes.
        format: Pillow's format name, a key of FORMATS.
        notes: one clause per change or fault, in processing order; empty if nothing had to be changed.
        jpeg_quality: 1 to 100; None if not a JPEG.
        opacity: the alpha channel, mode L, 255 is opaque; None if there is none.
    """

    image: Image.Image
    sha256: str
    format: str
    notes: tuple[str, ...]
    jpeg_quality: int | None
    opacity: Image.Image | None = None


class TooLarge(InputError):
    """A picture of more pixels than any training needs, whose decoding could take all memory."""


def check_size(width: int, height: int) -> None:
    """Check a picture's size, as its header says it, before it is decoded.

    Raises:
        TooLarge: if it has more than MOST_PIXELS, or more than LONGEST on a side.
    """
    if width * height > MOST_PIXELS or max(width, height) > LONGEST:
        most = f"more than {MOST_PIXELS} in all or {LONGEST} on a side"
        raise TooLarge(f"is {width} x {height} pixels, {most}; make it smaller or remove it")


def open_picture(path: Path) -> Image.Image:
    """Read a picture as upright 8-bit sRGB on white; raises like `read_picture`."""
    return read_picture(path).image


def read_picture(path: Path, background: str = "white") -> Reading:
    """Read a picture and say what had to be changed.

    Pillow truncates colours of 16 bits per channel to their upper 8, at most 1 level off; greys are rounded. The AVIF
    and JPEG 2000 decoders return 8 bits and do not report the original depth. Calls from several threads are
    serialised; use processes for parallelism.

    Args:
        path: image file; symlinks are followed.
        background: sRGB colour behind transparent areas, a name or #rrggbb.

    Raises:
        TooLarge: if it is too large, which is found before decoding.
        InputError: if the file is not a complete picture, not a regular file, or changes while being read; or if
            `background` is not a colour.
    """
    colour = opaque_colour(background)
    notes: list[str] = []
    try:
        data = picture_bytes(Path(path))
        tiff = data[:2] in (b"II", b"MM")
        with (
            _decoding,
            warnings.catch_warnings(record=True) as warned,
            _printed() if tiff else nullcontext([]) as printed,
        ):
            warnings.simplefilter("always")
            opened = _open(data)
            if Path(path).suffix.lower() not in FORMATS[opened.format]:
                notes.append(f"the file is {opened.format}, contrary to its name")
            image = _decode(opened, data, notes)
            image, opacity = to_srgb(image, opened.info.get("icc_profile", b""), notes)
        warned = [w.message for w in warned if w.category is not Image.DecompressionBombWarning]  # see check_size
        _heed([*map(_one_line, warned), *printed], notes)
    except OSError as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f"{printable(path)} {_reason(error)}") from error
    except (TooLarge, Image.DecompressionBombError) as error:
        raise TooLarge(f"{printable(path)} {_reason(error)}") from error
    except Exception as error:  # on broken files Pillow raises almost anything, from zlib.error to KeyError
        raise InputError(f"{printable(path)} {_reason(error)}") from error
    if opacity is not None and opacity.getextrema()[0] < 255:
        notes.append(f"transparency flattened onto {background}")
        image = lay_on(colour, image, opacity)
    image.info = {}  # otherwise the old profile would be saved with it
    tables = getattr(opened, "quantization", {})
    quality = jpeg_quality(tables[min(tables)]) if tables else None
    return Reading(image, hashlib.sha256(data).hexdigest(), opened.format, tuple(notes), quality, opacity)


def jpeg_quality(table: Sequence[int]) -> int:
    """Estimate the JPEG quality, 1 to 100, from the luminance quantisation table.

    Returns the quality whose libjpeg table (IJG, `jpeg_quality_scaling`) is nearest, also for programs with their own
    tables, such as Photoshop.

    Args:
        table: luminance quantisation table, 64 values row by row.
    """
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = ((_LUMINANCE * percent[:, None] + 50) // 100).clip(1, 255)
    return int(quality[np.abs(tables - np.asarray(table)).sum(1).argmin()])


def _one_line(message: object) -> str:
    return " ".join(str(message).split()) or type(message).__name__


def _reason(error: Exception) -> str:
    """Return what is wrong with a file and what to do, phrased to follow the file name."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):  # its message contains a memory address
        return f"is not a readable picture ({', '.join(FORMATS)}) or has a broken header; replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {2 * Image.MAX_IMAGE_PIXELS} pixels, too large to decode; make it smaller or remove it"
    return f"is cut short or damaged ({_one_line(error)}); replace or remove it"


def picture_bytes(path: Path) -> bytes:
    """Return the bytes of a picture's file.

    Raises:
        InputError: if it is no plain file, empty, too large, or changes while being read; without its name.
    """
    largest = 8 * MOST_PIXELS + 2**26  # four channels of 16 bits uncompressed, and 64 MiB of metadata
    for _ in range(2):
        try:
            before = path.stat()
            if not stat.S_ISREG(before.st_mode):  # opening a pipe would block for ever
                raise InputError("is not a regular file; remove it")
            if before.st_size > largest:
                raise TooLarge(f"is a file of {before.st_size} bytes, too large; make it smaller or remove it")
            data = path.read_bytes()
            after = path.stat()
        except OSError as error:
            raise InputError(f"is not readable ({error.strerror}); fix or remove it") from error
        if (before.st_mtime_ns, before.st_size, len(data)) == (after.st_mtime_ns, after.st_size, after.st_size):
            break
    else:
        raise InputError("changed while it was read; try again when nothing writes to it")
    if not data:
        raise InputError("is empty; replace or remove it")
    return data


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header, and check that decoding is safe and likely to succeed."""
    formats = [one for one in FORMATS if one != "MPO"]  # Pillow's JPEG reader detects MPO itself
    opened = Image.open(io.BytesIO(data), formats=formats)
    check_size(*opened.size)
    if opened.format == "PNG":
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()  # `load` ignores pixel checksums
    return opened


def _decode(opened: ImageFile.ImageFile, data: bytes, notes: list[str]) -> Image.Image:
    """Decode the first frame, complete and upright; mode L or LA for high-bit-depth grey, else the file's mode."""
    raw = str(opened.tile[0].args) if opened.tile else ""  # pixel layout in the file; lost after decoding
    if (frames := getattr(opened, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
        opened.seek(0)
    try:
        exif = opened.getexif()
    except Exception:  # broken EXIF raises many kinds of errors
        exif = Image.Exif()
    if not exif and opened.info.get("exif"):
        notes.append("EXIF empty or unreadable, ignored")
    orientation = exif.get(ExifTags.Base.Orientation)
    opened.load()
    if opened.format in ("JPEG", "MPO"):
        _check_jpeg(data, opened.mode, notes)
    bits = 12 if ";12" in raw else 16
    image: Image.Image = opened
    if opened.mode.startswith("I"):
        image = eight_bits(opened, bits, inverted=getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == 0)
    if ";16" in raw or opened.mode.startswith("I"):
        notes.append(f"{bits} bits per channel reduced to 8")
        if isinstance(transparent := opened.info.get("transparency"), tuple):  # a colour key, truncated like the pixels
            opened.info["transparency"] = tuple(value >> 8 for value in transparent)
    if orientation in _UPRIGHT:
        notes.append(f"rotated upright (EXIF orientation {orientation})")
        if opened.format != "TIFF":  # Pillow's `load` has already rotated TIFF
            image = image.transpose(_UPRIGHT[orientation])
    return image


def _check_jpeg(data: bytes, mode: str, notes: list[str]) -> None:
    """Reject a truncated JPEG: Pillow fills missing pixels with grey if the end marker is present."""
    space = {"L": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB")
    try:
        simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        _heed([_one_line(error)], notes)


def _heed(said: list[str], notes: list[str]) -> None:
    """Note decoder messages, and reject the picture if they report lost pixels."""
    for message in dict.fromkeys(said):
        if _LOST.search(message):
            raise InputError(f"is cut short or damaged ({message}); replace or remove it")
        notes.append(f"the decoder warns: {message}")


@contextmanager
def _printed() -> Iterator[list[str]]:
    """Capture what C code prints to stderr; libtiff reports lost pixels only there."""
    lines: list[str] = []
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()
