"""The bytes of files that Pillow reads and does not write."""

import itertools
import struct
import zlib

import numpy as np

#: Red, green and blue in XYZ under D50, as columns: of Display P3 in Apple's profile, and of sRGB (IEC 61966-2-1).
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
#: The white of ICC's connection space in XYZ.
D50 = (0.9642, 1.0, 0.8249)


def icc_profile(name, space="RGB ", columns=P3, gamma=None):
    """The bytes of an ICC profile (ICC.1:2010) for RGB with sRGB's curve and `columns`, or for grey with `gamma`."""
    srgb = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    values = (gamma,) if gamma else srgb
    curve = b"para\0\0\0\0" + struct.pack(">2H", 0 if gamma else 3, 0) + _fixed(*values)
    if space == "RGB ":
        tags = {f"{c}XYZ".encode(): _xyz(*columns[:, i]) for i, c in enumerate("rgb")}
        tags |= {f"{c}TRC".encode(): curve for c in "rgb"}
    else:
        tags = {b"kTRC": curve}
    return _icc(name, b"mntr", space.encode(), b"XYZ ", tags)


def cmyk_profile(name, lab):
    """The bytes of an ICC profile for CMYK that maps its 16 corners to Lab, linear between them.

    Args:
        name: description.
        lab: from four times 0 or 1 to L 0 to 100, a and b -128 to 127.
    """
    table = bytes(value for corner in itertools.product((0, 1), repeat=4) for value in _lab8(*lab(*corner)))
    ramp = bytes(range(256))
    data = b"mft1\0\0\0\0" + struct.pack(">4B", 4, 3, 2, 0) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _icc(name, b"prtr", b"CMYK", b"Lab ", {b"A2B0": data + 4 * ramp + table + 3 * ramp})


def _lab8(lightness, a, b):
    return round(lightness * 2.55), a + 128, b + 128


def _fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(*values):
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _icc(name, kind, space, connection, tags):
    text = name.encode("utf-16-be")
    described = b"mluc\0\0\0\0" + struct.pack(">2I4s2I", 1, 12, b"enUS", len(text), 28) + text
    tags = {b"desc": described, b"cprt": described, b"wtpt": _xyz(*D50)} | tags
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        table += key + struct.pack(">2I", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x04000000, kind, space, connection)
    header += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28 + _fixed(*D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, *chunks):
    """The bytes of a PNG (colour: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA) from its unfiltered rows."""
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def interlaced_png(pixels):
    """The bytes of an interlaced PNG (Adam7) of uint8 (H, W, 3)."""
    raw = b""
    for y, x, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        raw += b"".join(b"\0" + row.tobytes() for row in pixels[y::dy, x::dx])
    header = chunk(b"IHDR", struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def tiff(pixels, **tags):
    """The bytes of an uncompressed grey TIFF of uint16 (H, W); `tags` by number, such as t262=0 for white as 0."""
    height, width = pixels.shape
    data = pixels.astype("<u2").tobytes()
    entries = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries |= {int(key[1:]): value for key, value in tags.items()}
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<2H2I", key, 4, 1, value) for key, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0\0\0\0"
