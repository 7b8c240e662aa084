"""Any depth and any colour space become 8 bits of sRGB, against arithmetic of its own."""

import numpy as np
import pytest
from PIL import Image

from tests.crafted import D50, P3, SRGB, chunk, cmyk_profile, icc_profile, png, tiff
from tests.hostile import deep, encoded, oriented, pattern, rgb


def test_deep_grey_is_turned_and_reduced(read):
    image = Image.fromarray(deep(1)[..., 0])
    expected = np.rint(np.rot90(deep(1), -1) / 257)
    assert np.array_equal(*np.broadcast_arrays(read(encoded(image, "PNG", exif=oriented(6)))[1], expected))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.fromarray(deep(1)[..., 0]), "PNG"), np.rint(deep(1) / 257)),
        (encoded(Image.fromarray(deep(1)[..., 0]), "TIFF"), np.rint(deep(1) / 257)),
        (encoded(Image.fromarray(deep(1)[..., 0]), "TIFF", compression="tiff_deflate"), np.rint(deep(1) / 257)),
        (encoded(Image.frombytes("I;16B", (40, 24), deep(1).astype(">u2").tobytes()), "TIFF"), np.rint(deep(1) / 257)),
        (encoded(Image.fromarray(deep(1)[..., 0].astype(np.int32)), "TIFF"), np.rint(deep(1) / 257)),
        (tiff(deep(1)[..., 0]), np.rint(deep(1) / 257)),
        (tiff(deep(1)[..., 0], t262=0), 255 - np.rint(deep(1) / 257)),
    ],
)
def test_sixteen_bits_of_grey_are_rounded_to_eight(read, data, expected):
    reading, pixels = read(data, "a.tif")
    assert "16 bits per channel reduced to 8" in reading.notes
    assert np.array_equal(pixels, np.broadcast_to(expected, pixels.shape))


def test_twelve_bits_of_grey_use_the_whole_range(read):
    values = np.array([[0, 4095], [2048, 1000]])
    packed = bytes(
        byte for a, b in values for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255)
    )  # two values in three bytes
    data = tiff(np.frombuffer(packed, "<u2").reshape(1, 3), t256=2, t257=2, t258=12, t278=2)
    reading, pixels = read(data, "a.tif")
    assert "12 bits per channel reduced to 8" in reading.notes
    assert np.array_equal(pixels[..., 0], np.rint(values * 255 / 4095))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_of_colour_are_off_by_one_at_most(read, colour, channels):
    rows = [row.astype(">u2").tobytes() for row in deep(channels)]
    _, pixels = read(png(40, 24, 16, colour, rows))
    values = deep(channels) / 257
    if channels != 3:
        opacity = values[..., -1:] / 255
        values = opacity * values[..., :-1] + (1 - opacity) * 255
    assert np.abs(pixels - values).max() <= (1.5 if channels == 3 else 2.5)


def test_one_transparent_value_of_sixteen_bits(read):
    grey = np.array([[100 * 257, 100 * 257 + 1]])
    data = png(2, 1, 16, 0, [grey.astype(">u2").tobytes()], chunk(b"tRNS", (100 * 257).to_bytes(2, "big")))
    assert read(data)[1][0].tolist() == [[255] * 3, [100] * 3]
    colours = np.array([[0x6401, 0x3202, 0x1903], [0x1903, 0x3202, 0x6401]]).astype(">u2")
    data = png(2, 1, 16, 2, [colours.tobytes()], chunk(b"tRNS", colours[0].tobytes()))
    assert read(data)[1][0].tolist() == [[255] * 3, [0x19, 0x32, 0x64]]


def srgb_curve(linear):
    """IEC 61966-2-1, 0 to 1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def srgb_line(encoded_values):
    return np.where(encoded_values <= 0.04045, encoded_values / 12.92, ((encoded_values + 0.055) / 1.055) ** 2.4)


def to_bytes(linear):
    """Linear sRGB to 0 to 255."""
    return srgb_curve(linear.clip(0, 1)) * 255


def lab_to_bytes(lab):
    """CIE 15: Lab under D50 to sRGB, 0 to 255."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return to_bytes(xyz @ np.linalg.inv(SRGB).T)


def test_display_p3_is_converted_as_its_matrix_says(read):
    colours = np.array([[[150, 100, 100], [100, 150, 90], [90, 90, 160], [200, 150, 120], [0, 0, 0], [255, 255, 255]]])
    data = encoded(Image.fromarray(colours.astype(np.uint8)), "PNG", icc_profile=icc_profile("Display P3", columns=P3))
    linear = srgb_line(colours / 255) @ P3.T @ np.linalg.inv(SRGB).T
    reading, pixels = read(data)
    assert reading.notes == ("colours converted from 'Display P3' to sRGB",)
    assert np.abs(pixels - to_bytes(linear)).max() <= 1
    assert np.abs(pixels - colours).max() > 5


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_grey_with_a_curve_of_its_own(read, gamma):
    values = np.arange(256, dtype=np.uint8)[None]
    profile = icc_profile("a grey", "GRAY", gamma=gamma)
    _, pixels = read(encoded(Image.fromarray(values), "PNG", icc_profile=profile))
    assert np.abs(pixels[..., 0] - to_bytes((values / 255) ** gamma)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_srgb_by_any_name_changes_no_pixel(read, mode):
    image = rgb().convert(mode)
    reading, pixels = read(encoded(image, "PNG", icc_profile=icc_profile("whatever", columns=SRGB)))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert reading.notes == (() if mode == "RGB" else ("greyscale converted to RGB",))


def test_a_broken_profile_changes_no_pixel(read):
    assert np.array_equal(read(encoded(rgb(), "PNG", icc_profile=b"x" * 300))[1], pattern())


def test_the_old_profile_does_not_come_along(read, tmp_path):
    reading, _ = read(encoded(rgb(), "PNG", icc_profile=icc_profile("Display P3")))
    reading.image.save(tmp_path / "again.png")
    assert "icc_profile" not in Image.open(tmp_path / "again.png").info


@pytest.mark.parametrize(("format", "tolerance"), [("TIFF", 1), ("JPEG", 8)])
def test_inks_become_light(read, format, tolerance):
    inks = np.dstack([pattern(), np.full((24, 40), 40, np.uint8)])
    _, pixels = read(encoded(Image.fromarray(inks, "CMYK"), format, **{"quality": 95} if format == "JPEG" else {}))
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:]) / 255
    assert np.abs(pixels - expected).max() <= tolerance + 1


def test_inks_with_a_profile_follow_it(read):
    def lab(cyan, magenta, yellow, black):
        return 0 if black else 100 - 15 * (cyan + magenta + yellow), 20 * (magenta - cyan), 20 * yellow

    corners = np.array([(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 1, 0)])
    image = Image.fromarray((corners * 255).astype(np.uint8)[None], "CMYK")
    reading, pixels = read(encoded(image, "TIFF", icc_profile=cmyk_profile("inks", lab)), "a.tif")
    assert reading.notes == ("CMYK converted to RGB", "colours converted from 'inks' to sRGB")
    assert np.abs(pixels[0] - lab_to_bytes(np.array([lab(*corner) for corner in corners]))).max() <= 2


@pytest.mark.parametrize("lab", [(50, 20, 20), (50, -20, 10), (70, 5, -30), (100, 0, 0), (0, 0, 0)])
def test_lab_becomes_srgb(read, lab):
    lightness, a, b = lab
    stored = (round(lightness * 2.55), a + 128, b + 128)  # Pillow keeps a and b off by 128
    reading, pixels = read(encoded(Image.new("LAB", (4, 4), stored), "TIFF"), "a.tif")
    assert reading.notes == ("LAB converted to RGB",)
    assert np.abs(pixels[0, 0] - lab_to_bytes(np.array(lab, dtype=float))).max() <= 2
