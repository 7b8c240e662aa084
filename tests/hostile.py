"""A folder of everything that people's picture folders hold, written by script, with the verdict that each must get."""

import io
import os
import stat

import numpy as np
from PIL import Image, PngImagePlugin

from tests.crafted import SRGB, chunk, icc_profile, interlaced_png, png, tiff

WIDTH, HEIGHT = 40, 24
ORIENTATION, STRIP_OFFSETS = 0x0112, 0x0111  # tags of EXIF and TIFF
READS_YCBCR = int(Image.__version__.split(".")[0]) >= 13  # an uncompressed TIFF; older ones call it cut short


def pattern(height=HEIGHT, width=WIDTH):
    """A picture without any symmetry: smooth colours, so that JPEG keeps them, uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 6, y * 10, (x + 2 * y) * 2], -1).clip(0, 255).astype(np.uint8)


def rgb():
    return Image.fromarray(pattern())


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def oriented(number):
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif


def deep(channels):
    """Values of 16 bits over the whole range, uint16 (H, W, channels)."""
    return (np.arange(HEIGHT * WIDTH * channels) * 67 % 65536).astype(np.uint16).reshape(HEIGHT, WIDTH, channels)


def deep_png(colour, channels, *chunks):
    return png(WIDTH, HEIGHT, 16, colour, [row.astype(">u2").tobytes() for row in deep(channels)], *chunks)


def bad_fax():
    """A fax with damaged rows, which libtiff fills with something."""
    whole = encoded(rgb().convert("1"), "TIFF", compression="group4")
    middle = Image.open(io.BytesIO(whole)).tag_v2[STRIP_OFFSETS][0] + 16
    return whole[:middle] + b"\0\1\0\0" + whole[middle + 4 :]


def truncated_with_end_marker():
    """A JPEG without its lower half, closed properly; Pillow alone fills it up with grey."""
    whole = encoded(Image.fromarray(pattern(96, 64)), "JPEG")
    return whole[: len(whole) * 2 // 3] + b"\xff\xd9"


def with_alpha(alpha, mode="RGBA"):
    image = rgb().convert(mode)
    image.putalpha(Image.fromarray(np.full((HEIGHT, WIDTH), alpha, np.uint8)))
    return image


def animation(format, **options):
    return encoded(rgb(), format, save_all=True, append_images=[rgb().rotate(180), rgb().rotate(90)], **options)


def text_bomb():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "0" * (8 * 2**20), zip=True)
    return encoded(rgb(), "PNG", pnginfo=info)


def pictures():
    """Name -> (bytes, verdict, fragment of a note or of the reason)."""
    plain, jpeg = encoded(rgb(), "PNG"), encoded(rgb(), "JPEG", quality=90)
    grey, palette = rgb().convert("L"), rgb().quantize(16)
    bad_crc = bytearray(plain)
    bad_crc[-13] ^= 1  # the last byte of the checksum of the pixels
    save_16 = Image.fromarray(np.full((HEIGHT, WIDTH), 30000, np.uint16))
    p3 = icc_profile("Display P3")
    converted = {
        **{f"orientation {n}.jpg": (encoded(rgb(), "JPEG", exif=oriented(n)), f"orientation {n}") for n in range(2, 9)},
        "orientation 6.png": (encoded(rgb(), "PNG", exif=oriented(6)), "rotated upright"),
        "orientation 6.tif": (encoded(rgb(), "TIFF", exif=oriented(6)), "rotated upright"),
        "orientation 6.webp": (encoded(rgb(), "WEBP", exif=oriented(6)), "rotated upright"),
        "orientation 6.avif": (encoded(rgb(), "AVIF", exif=oriented(6)), "rotated upright"),
        "broken exif.jpg": (encoded(rgb(), "JPEG", exif=b"Exif\0\0garbage"), "EXIF empty or unreadable"),
        "cut exif.jpg": (encoded(rgb(), "JPEG", exif=oriented(6).tobytes()[:-12]), "decoder warns: Corrupt EXIF"),
        "p3.png": (encoded(rgb(), "PNG", icc_profile=p3), "converted from 'Display P3' to sRGB"),
        "p3.jpg": (encoded(rgb(), "JPEG", icc_profile=p3), "converted from 'Display P3' to sRGB"),
        "linear grey.png": (
            encoded(grey, "PNG", icc_profile=icc_profile("linear", "GRAY", gamma=1.0)),
            "converted from 'linear' to sRGB",
        ),
        "broken icc.png": (encoded(rgb(), "PNG", icc_profile=p3[:200]), "unusable colour profile ignored"),
        "icc of another mode.png": (
            encoded(rgb(), "PNG", icc_profile=icc_profile("linear", "GRAY", gamma=1.0)),
            "unusable colour profile ignored",
        ),
        "16 bit grey.png": (encoded(save_16, "PNG"), "16 bits per channel reduced to 8"),
        "16 bit grey.tif": (encoded(save_16, "TIFF"), "16 bits per channel reduced to 8"),
        "16 bit grey big endian.tif": (
            encoded(Image.new("I;16B", (WIDTH, HEIGHT), 30000), "TIFF"),
            "16 bits per channel reduced to 8",
        ),
        "16 bit grey, white is zero.tif": (tiff(deep(1)[..., 0], t262=0), "16 bits per channel reduced to 8"),
        "16 bit grey, one transparent.png": (deep_png(0, 1, chunk(b"tRNS", b"\0\0")), "transparency flattened onto"),
        "16 bit grey and alpha.png": (deep_png(4, 2), "16 bits per channel reduced to 8"),
        "16 bit rgb.png": (deep_png(2, 3), "16 bits per channel reduced to 8"),
        "16 bit rgba.png": (deep_png(6, 4), "16 bits per channel reduced to 8"),
        "32 bit within 16.tif": (
            encoded(Image.new("I", (WIDTH, HEIGHT), 65535), "TIFF"),
            "16 bits per channel reduced to 8",
        ),
        "one bit.png": (encoded(rgb().convert("1"), "PNG"), "black and white converted to RGB"),
        "one bit fax.tif": (encoded(rgb().convert("1"), "TIFF", compression="group4"), "black and white"),
        "grey.png": (encoded(grey, "PNG"), "greyscale converted to RGB"),
        "grey.jpg": (encoded(grey, "JPEG"), "greyscale converted to RGB"),
        "grey and alpha.png": (encoded(with_alpha(99, "L"), "PNG"), "transparency flattened onto white"),
        "palette.png": (encoded(palette, "PNG"), "palette converted to RGB"),
        "palette.bmp": (encoded(palette, "BMP"), "palette converted to RGB"),
        "palette, one transparent.png": (encoded(palette, "PNG", transparency=0), "transparency flattened onto white"),
        "palette, half transparent.png": (
            encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
            "transparency flattened onto white",
        ),
        "palette and alpha.tif": (encoded(palette.convert("PA"), "TIFF"), "palette converted to RGB"),
        "rgb, one transparent.png": (
            encoded(rgb(), "PNG", transparency=(0, 0, 0)),
            "transparency flattened onto white",
        ),
        "half transparent.png": (encoded(with_alpha(128), "PNG"), "transparency flattened onto white"),
        "half transparent.webp": (encoded(with_alpha(128), "WEBP", lossless=True), "transparency flattened onto white"),
        "half transparent.avif": (encoded(with_alpha(128), "AVIF"), "transparency flattened onto white"),
        "half transparent.tif": (encoded(with_alpha(128), "TIFF"), "transparency flattened onto white"),
        "cmyk.jpg": (encoded(rgb().convert("CMYK"), "JPEG"), "CMYK converted to RGB"),
        "cmyk.tif": (encoded(rgb().convert("CMYK"), "TIFF"), "CMYK converted to RGB"),
        "lab.tif": (encoded(Image.new("LAB", (WIDTH, HEIGHT), (128, 30, 20)), "TIFF"), "LAB converted to RGB"),
        **({"ycbcr.tif": (encoded(rgb().convert("YCbCr"), "TIFF"), "YCbCr converted to RGB")} if READS_YCBCR else {}),
        "animation.gif": (animation("GIF"), "first of 3 frames"),
        "animation.webp": (animation("WEBP"), "first of 3 frames"),
        "animation.png": (animation("PNG"), "first of 3 frames"),
        "animation after a still.apng": (animation("PNG", default_image=True), "first of 3 frames"),
        "animation.avif": (animation("AVIF"), "first of 3 frames"),
        "pages.tif": (animation("TIFF"), "first of 3 frames"),
        "telephone.jpg": (animation("MPO"), "first of 3 frames"),
        "a jpeg.png": (jpeg, "the file is JPEG"),
        "a png.jpg": (plain, "the file is PNG"),
        "extraneous bytes.jpg": (jpeg.replace(b"\xff\xc4", b"\0\0\0\xff\xc4", 1), "3 extraneous bytes"),
    }
    accepted = {
        "plain.png": plain,
        "plain.jpg": jpeg,
        "plain.webp": encoded(rgb(), "WEBP"),
        "plain.bmp": encoded(rgb(), "BMP"),
        "plain.tif": encoded(rgb(), "TIFF"),
        "packed.tif": encoded(rgb(), "TIFF", compression="tiff_lzw"),
        "jpeg inside.tif": encoded(rgb(), "TIFF", compression="jpeg"),
        "plain.avif": encoded(rgb(), "AVIF"),
        "plain.jp2": encoded(rgb(), "JPEG2000"),
        "progressive.jpg": encoded(rgb(), "JPEG", progressive=True),
        "interlaced.png": interlaced_png(pattern()),
        "opaque alpha.png": encoded(with_alpha(255), "PNG"),
        "srgb icc.png": encoded(rgb(), "PNG", icc_profile=icc_profile("an sRGB", columns=SRGB)),
        "orientation 1.jpg": encoded(rgb(), "JPEG", exif=oriented(1)),
        "orientation 99.jpg": encoded(rgb(), "JPEG", exif=oriented(99)),
        "garbage after the end.jpg": jpeg + b"garbage" * 100,
        "garbage after the end.png": plain + b"garbage" * 100,
        "UPPER.PNG": plain,
        "Mixed.JpEg": jpeg,
        "one pixel.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "a line.png": encoded(Image.new("RGB", (1, 5000), "red"), "PNG"),
        "x" * 251 + ".png": plain,
        "line\nbreak.png": plain,
        "quotes ' \" `.png": plain,
        "\N{SMILING FACE WITH SUNGLASSES} \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ARTIST PALETTE}.png": plain,
        "decomposed e\N{COMBINING ACUTE ACCENT}.png": plain,
        "composed \N{LATIN SMALL LETTER E WITH ACUTE}.png": plain,
        "-rf.png": plain,
        "\N{RIGHT-TO-LEFT OVERRIDE}gpj.\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}.png": plain,
        " spaces before and after .png": plain,
        "two.suffixes.jpg.png": plain,
        "%s {0} $HOME \\ * ?.png": plain,
        "\N{CJK UNIFIED IDEOGRAPH-6C34}\N{CJK UNIFIED IDEOGRAPH-5F69}/deep/er/a.png": plain,
        "a folder.png/inside.png": plain,
    }
    rejected = {
        "empty.png": (b"", "is empty"),
        "text.jpg": (b"this is not a picture\n", "is not a readable picture"),
        "page.png": (b"<!DOCTYPE html><html><body>404</body></html>", "is not a readable picture"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a readable picture"),
        "random.gif": (np.random.default_rng(0).bytes(500), "is not a readable picture"),
        "zeros.bmp": (b"\0" * 500, "is not a readable picture"),
        "signature only.png": (plain[:8], "is not a readable picture"),
        **{f"cut at {percent}.png": (plain[: len(plain) * percent // 100], "is ") for percent in (10, 50, 90)},
        **{f"cut at {percent}.jpg": (jpeg[: len(jpeg) * percent // 100], "is ") for percent in (10, 50, 99)},
        "cut.webp": (encoded(rgb(), "WEBP")[:-30], "is "),
        "cut.gif": (encoded(rgb(), "GIF")[:-80], "cut short or damaged"),
        "cut.bmp": (encoded(rgb(), "BMP")[:-80], "cut short or damaged"),
        "cut.tif": (encoded(rgb(), "TIFF")[:-80], "is "),
        "cut.avif": (encoded(rgb(), "AVIF")[:-30], "is "),
        "cut, but with an end marker.jpg": (truncated_with_end_marker(), "premature end"),
        "restart markers out of order.jpg": (
            encoded(rgb(), "JPEG", restart_marker_blocks=1).replace(b"\xff\xd2", b"\xff\xd5"),
            "instead of RST",
        ),
        "bad checksum.png": (bytes(bad_crc), "cut short or damaged"),
        "bad header checksum.png": (plain[:29] + b"\0\0\0\0" + plain[33:], "is not a readable picture"),
        "bad fax.tif": (bad_fax(), "cut short or damaged (Fax4Decode"),
        "zero wide.png": (png(0, 5, 8, 2, [b""] * 5), "broken header"),
        "bomb.png": (png(60000, 60000, 8, 0, [b"\0" * 10]), "too large to decode"),
        "smaller bomb.png": (png(13000, 12000, 8, 0, [b"\0" * 10]), "more than 134217728"),
        "text bomb.png": (text_bomb(), "cut short or damaged"),
        "floats.tif": (encoded(Image.new("F", (WIDTH, HEIGHT), 0.5), "TIFF"), "floating-point"),
        "32 bit.tif": (encoded(Image.new("I", (WIDTH, HEIGHT), 2**24), "TIFF"), "32 bits"),
        "negative.tif": (encoded(Image.new("I", (WIDTH, HEIGHT), -1), "TIFF"), "32 bits"),
    }
    return (
        {name: (data, "converted", fragment) for name, (data, fragment) in converted.items()}
        | {name: (data, "accepted", "") for name, data in accepted.items()}
        | {name: (data, "rejected", fragment) for name, (data, fragment) in rejected.items()}
    )


def entries():
    """Name -> (what makes it from its path, verdict, fragment of the reason), for what is not a plain file."""
    link = "a symlink to the file.png"
    return {
        link: (lambda path: path.symlink_to("plain.png"), "accepted", ""),
        "leads nowhere.png": (lambda path: path.symlink_to("gone.png"), "skipped", "broken symlink"),
        "loop a.png": (lambda path: path.symlink_to("loop b.png"), "skipped", "broken symlink"),
        "loop b.png": (lambda path: path.symlink_to("loop a.png"), "skipped", "broken symlink"),
        "folder loop": (lambda path: path.symlink_to("."), "skipped", "not followed"),
        "folder loop.png": (lambda path: path.symlink_to("."), "skipped", "not followed"),
        "endless.png": (lambda path: path.symlink_to("/dev/zero"), "skipped", "device"),
        "pipe.png": (os.mkfifo, "skipped", "named pipe"),
        "socket.png": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "skipped", "socket"),
    }


def others():
    """Name -> (verdict, fragment of the reason) of files that are no pictures by name."""
    return {
        "plain.txt": ("caption", ""),
        "UPPER.CAPTION": ("caption", ""),
        ".DS_Store": ("ignored", "system file"),
        "Thumbs.db": ("ignored", "system file"),
        "desktop.ini": ("ignored", "system file"),
        "._plain.png": ("ignored", "system file"),
        ".hidden.png": ("ignored", "hidden file"),
        "layers.psd": ("skipped", ".psd is not supported"),
        "telephone.HEIC": ("skipped", ".heic is not supported"),
        "drawing.svg": ("skipped", ".svg is not supported"),
        "half loaded.png.part": ("skipped", ".part is not supported"),
        "notice board.heic": ("skipped", ".heic is not supported"),
        "a: hidden x.heic": ("skipped", ".heic is not supported"),
        "OFL-License.html": ("ignored", ".html is not supported"),
        "no suffix": ("skipped", "no suffix"),
        os.fsdecode(b"latin-1 \xe9.png"): ("skipped", "not UTF-8"),
    }


def make_hostile_folder(folder):
    """Write the folder and return relative name -> (verdict, fragment of the note or reason).

    Verdicts are "accepted" (no note), "converted" (with a note), "rejected", "skipped", "ignored" and "caption".
    """
    expected = {}
    for name, (data, *verdict) in pictures().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        expected[name] = tuple(verdict)
    for name, verdict in others().items():
        (folder / name).write_bytes(b"a plain picture")
        expected[name] = verdict
    for name, (make, *verdict) in entries().items():
        make(folder / name)
        expected[name] = tuple(verdict)
    for name in (".git", "__MACOSX", "@eaDir"):
        (folder / name).mkdir()
        (folder / name / "inside.png").write_bytes((folder / "plain.png").read_bytes())
        expected[name] = ("ignored", "not searched")
    expected["a folder.png"] = ("ignored", "a folder that is named like a picture")
    return expected | _without_permission(folder)


def _without_permission(folder):
    """Take permissions away, and return what follows from it: nothing where the user is the superuser."""
    (folder / "locked").mkdir()
    for path in (folder / "locked.png", folder / "locked" / "inside.png"):
        path.write_bytes((folder / "plain.png").read_bytes())
    (folder / "locked.png").chmod(0)
    (folder / "locked").chmod(0)
    if os.access(folder / "locked.png", os.R_OK):
        return {"locked.png": ("accepted", ""), "locked/inside.png": ("accepted", "")}
    return {"locked.png": ("rejected", "is not readable"), "locked": ("skipped", "cannot be read")}
