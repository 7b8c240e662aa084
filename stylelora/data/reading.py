"""Read one picture in any state as upright, opaque, 8-bit sRGB, with a note of every change."""

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
from stylelora.records import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import ImageFile

#: Pillow's name of each format that is read, and the suffixes it goes by.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # a JPEG with further ones behind it, as telephones write
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}

#: Suffixes of pictures, in lower case.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: What EXIF's orientation asks for, by its number (EXIF 2.32, tag 0x0112); 1 is upright.
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

#: TIFF's PhotometricInterpretation; 0: white is 0, which Pillow turns round up to 8 bits only.
_PHOTOMETRIC = 262

#: What libjpeg and libtiff say of lost pixels, which they fill with something and go on.
_LOST = re.compile(r"remature end|bad \w+ code|instead of RST|Decode\w*:")

#: The record of warnings and the console belong to the process, so pictures are decoded one at a time in it.
_decoding = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """A picture, and what was changed to get it.

    Attributes:
        image: RGB, 8 bit, sRGB, upright, without metadata.
        sha256: hash of the file's bytes.
        format: Pillow's name, a key of FORMATS.
        notes: one clause per change or fault, in the order of the work; empty if the file was as it should be.
        jpeg_quality: 1 to 100, None unless a JPEG.
    """

    image: Image.Image
    sha256: str
    format: str
    notes: tuple[str, ...]
    jpeg_quality: int | None


def open_picture(path: Path) -> Image.Image:
    """Read a picture as RGB, 8 bit, sRGB, upright, on white; raises what `read_picture` raises."""
    return read_picture(path).image


def read_picture(path: Path, background: str = "white", max_pixels: int = 2**27) -> Reading:
    """Read a picture and say what had to be changed.

    Colours at 16 bits per channel are cut to their upper 8 by Pillow, 1 level off at most; grey ones are rounded. AVIF
    and JPEG 2000 come at 8 bits from their decoders, which do not tell the depth. Calls in threads wait for one
    another; processes do not.

    Args:
        path: a file; symlinks are followed.
        background: what shows through where the picture is transparent, as a name or #rrggbb, in sRGB.
        max_pixels: width x height above which a picture is refused before it is decoded. Pillow itself refuses more
            than twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million).

    Raises:
        InputError: if the file is no whole picture, not a regular file, too large, or changes while it is read; or
            if `background` is no colour.
    """
    colour = opaque_colour(background)
    notes: list[str] = []
    try:
        data = _read_bytes(Path(path), max_pixels)
        tiff = data[:2] in (b"II", b"MM")
        with (
            _decoding,
            warnings.catch_warnings(record=True) as warned,
            _printed() if tiff else nullcontext([]) as printed,
        ):
            warnings.simplefilter("always")
            opened = _open(data, max_pixels)
            if Path(path).suffix.lower() not in FORMATS[opened.format]:
                notes.append(f"the file is {opened.format}, contrary to its name")
            image = _decode(opened, data, notes)
            image, opacity = to_srgb(image, opened.info.get("icc_profile", b""), notes)
        warned = [w.message for w in warned if w.category is not Image.DecompressionBombWarning]  # we have max_pixels
        _heed([*map(_one_line, warned), *printed], notes)
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything, zlib.error to KeyError
        raise InputError(f"{printable(path)} {_reason(error)}") from error
    if opacity is not None and opacity.getextrema()[0] < 255:
        notes.append(f"transparency flattened onto {background}")
        image = lay_on(colour, image, opacity)
    image.info = {}  # else the old profile would go into what is saved
    tables = getattr(opened, "quantization", {})
    quality = jpeg_quality(tables[min(tables)]) if tables else None
    return Reading(image, hashlib.sha256(data).hexdigest(), opened.format, tuple(notes), quality)


def printable(path: Path | str) -> str:
    """Return a path so that it can be printed on one line, with escapes if it holds newlines or broken characters."""
    return str(path) if str(path).isprintable() else repr(str(path))


def jpeg_quality(table: Sequence[int]) -> int:
    """Return the quality, 1 to 100, whose luminance table is nearest to the given one.

    The tables are those of libjpeg (IJG, `jpeg_quality_scaling`); programs with tables of their own, such as
    Photoshop, get the nearest.

    Args:
        table: quantisation table of the luminance, 64 values row by row.
    """
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = ((_LUMINANCE * percent[:, None] + 50) // 100).clip(1, 255)
    return int(quality[np.abs(tables - np.asarray(table)).sum(1).argmin()])


def _one_line(message: object) -> str:
    return " ".join(str(message).split()) or type(message).__name__


def _reason(error: Exception) -> str:
    """Say what is wrong with a file and what to do, to be read after its name."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):  # its message has an address in memory
        return f"is not a readable picture ({', '.join(FORMATS)}) or has a broken header; replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {2 * Image.MAX_IMAGE_PIXELS} pixels, too large to decode; make it smaller or remove it"
    return f"is cut short or damaged ({_one_line(error)}); replace or remove it"


def _read_bytes(path: Path, max_pixels: int) -> bytes:
    largest = 8 * max_pixels + 2**26  # four channels of 16 bits uncompressed, and 64 MiB of metadata
    for _ in range(2):
        try:
            before = path.stat()
            if not stat.S_ISREG(before.st_mode):  # opening a pipe would wait for ever
                raise InputError("is not a regular file; remove it")
            if before.st_size > largest:
                raise InputError(f"is a file of {before.st_size} bytes, too large; make it smaller or remove it")
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


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Read the header, and make sure that decoding is worth it and harmless."""
    formats = [one for one in FORMATS if one != "MPO"]  # the reader of JPEG hands those over
    opened = Image.open(io.BytesIO(data), formats=formats)
    width, height = opened.size
    if width * height > max_pixels:
        raise InputError(f"is {width} x {height} pixels, more than {max_pixels}; make it smaller or remove it")
    if opened.format == "PNG":
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()  # `load` ignores the checksums of the pixels
    return opened


def _decode(opened: ImageFile.ImageFile, data: bytes, notes: list[str]) -> Image.Image:
    """Return the first frame, whole and upright, of mode L or LA if grey and deep, else in the file's own mode."""
    raw = str(opened.tile[0].args) if opened.tile else ""  # the layout in the file; gone once that is decoded
    if (frames := getattr(opened, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
        opened.seek(0)
    try:
        exif = opened.getexif()
    except Exception:  # there are as many kinds as ways to break EXIF
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
        if isinstance(transparent := opened.info.get("transparency"), tuple):  # a colour, cut like the others
            opened.info["transparency"] = tuple(value >> 8 for value in transparent)
    if orientation in _UPRIGHT:
        notes.append(f"rotated upright (EXIF orientation {orientation})")
        if opened.format != "TIFF":  # which Pillow has turned in `load`
            image = image.transpose(_UPRIGHT[orientation])
    return image


def _check_jpeg(data: bytes, mode: str, notes: list[str]) -> None:
    """Refuse a JPEG that lacks pixels: Pillow fills them up with grey if only the end marker is there."""
    space = {"L": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB")
    try:
        simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        _heed([_one_line(error)], notes)


def _heed(said: list[str], notes: list[str]) -> None:
    """Note what decoders say, and refuse the picture if they say that pixels are lost."""
    for message in dict.fromkeys(said):
        if _LOST.search(message):
            raise InputError(f"is cut short or damaged ({message}); replace or remove it")
        notes.append(f"the decoder warns: {message}")


@contextmanager
def _printed() -> Iterator[list[str]]:
    """Collect the lines that C code prints to stderr, for libtiff tells of lost pixels in no other way."""
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
