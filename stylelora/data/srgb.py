"""Conversion of any Pillow mode and ICC profile to 8-bit sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageColor

from stylelora.records import InputError

_GREYS = ("1", "L", "LA", "La")
_NAMES = dict.fromkeys(_GREYS, "greyscale") | {"1": "black and white", "P": "palette", "PA": "palette"}


def opaque_colour(name: str) -> tuple[int, ...]:
    """Parse a colour name or #rrggbb to (red, green, blue), 0 to 255.

    Raises:
        InputError: if it is not a colour, or has an alpha channel.
    """
    try:
        colour = ImageColor.getrgb(name)
    except ValueError:
        colour = ()
    if len(colour) != 3:
        raise InputError(f"background {name!r} is no opaque colour; give a name such as white, or #rrggbb")
    return colour


def lay_on(colour: tuple[int, ...], image: Image.Image, opacity: Image.Image) -> Image.Image:
    """Composite an RGB picture over a colour: a * image + (1 - a) * colour, rounded, with a = opacity / 255 (L)."""
    below = Image.new("RGB", image.size, colour)
    below.paste(image, mask=opacity)
    return below


def eight_bits(image: Image.Image, bits: int, inverted: bool = False) -> Image.Image:
    """Convert high-bit-depth grey to L, rounded, or to LA if one value counts as transparent.

    Args:
        image: picture of a mode starting with I.
        bits: bit depth; values range over 0 to 2**bits - 1.
        inverted: whether 0 is white.

    Raises:
        InputError: if values are out of range; the message is phrased to follow a file name.
    """
    pixels = np.asarray(image).astype(np.int64)
    full = 2**bits - 1
    if pixels.min() < 0 or pixels.max() > full:
        raise InputError("has 32 bits per pixel of unknown range; save it with 8 or 16")
    transparent = pixels == image.info.get("transparency", -1)
    if inverted:
        pixels = full - pixels
    grey = Image.fromarray((pixels * 255 / full).round().astype(np.uint8))
    if transparent.any():
        grey.putalpha(Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8)))
    return grey


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Convert a picture to sRGB; return its colours (mode RGB) and its alpha channel (mode L) or None.

    Args:
        image: 8-bit picture of any Pillow mode.
        profile: ICC profile, b"" if there is none, None if it was lost.
        notes: list to which one clause per change is appended.

    Raises:
        InputError: if the value range is unknown; the message is phrased to follow a file name.
    """
    if image.mode == "F":
        raise InputError("has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("RGB"):
        notes.append(f"{_NAMES.get(image.mode, image.mode)} converted to RGB")
    colours = "L" if image.mode in _GREYS else "CMYK" if image.mode == "CMYK" else "RGB"
    opacity = None
    if image.has_transparency_data:
        image = image.convert("LA" if colours == "L" else "RGBA")
        opacity = image.getchannel("A")
    image = image.convert(colours)
    return image.convert("RGB") if profile == b"" else _from_profile(image, profile or b"", notes), opacity


def _from_profile(image: Image.Image, icc: bytes, notes: list[str]) -> Image.Image:
    """Convert L, RGB or CMYK to sRGB: relative colorimetric with black point compensation, as in photo editors."""
    plain = image.convert("RGB")
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if image.mode == "L":  # the direct grey conversion is up to 10 levels off in dark tones
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip()
        grey_called_rgb = image.mode == "L" and profile.profile.xcolor_space.strip() == "RGB"  # tools leave sRGB there
        converted = ImageCms.profileToProfile(
            plain if grey_called_rgb else image,
            profile,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=flags,
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        notes.append(f"unusable colour profile ignored ({' '.join(str(error).split())})")
        return plain
    changed = ImageChops.difference(plain, converted).getextrema()
    if max(high for _, high in changed) <= 1:  # it already was sRGB, whatever its name; the rest is rounding
        return plain
    notes.append(f"colours converted from {name!r} to sRGB")
    return converted
