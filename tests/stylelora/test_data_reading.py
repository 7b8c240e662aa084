"""Reading a picture in any state, against arithmetic of its own; what each kind of file comes to is in hostile.py."""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylelora.data.find import find_files
from stylelora.data.reading import FORMATS, jpeg_quality, open_picture, printable, read_picture
from stylelora.records import InputError
from tests.crafted import D50, P3, SRGB, chunk, cmyk_profile, icc_profile, png, tiff
from tests.hostile import animation, deep, encoded, make_hostile_folder, oriented, pattern, rgb

#: What each orientation asks for, by rows and columns (EXIF 2.32: which sides the 0th row and column are).
UPRIGHT = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.fixture
def read(tmp_path):
    """Write bytes to a file and read it: Reading, with `pixels`, int (H, W, 3)."""

    def write_and_read(data, name="a.png", **options):
        (tmp_path / name).write_bytes(data)
        reading = read_picture(tmp_path / name, **options)
        return reading, np.asarray(reading.image).astype(int)

    return write_and_read


def verdicts(folder):
    """Relative name -> (verdict, note or reason), as in hostile.py."""
    got = {}
    for found in find_files(folder):
        verdict = (found.kind, found.reason)
        if found.kind == "picture":
            try:
                reading = read_picture(found.path)
                assert (reading.image.mode, reading.image.info) == ("RGB", {})
                assert reading.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
                verdict = ("fixed" if reading.notes else "accepted", "; ".join(reading.notes))
            except InputError as error:
                assert str(error).startswith(printable(found.path))
                assert "\n" not in str(error) and str(error).count("; ") == 1
                verdict = ("rejected", str(error))
        got[found.path.relative_to(folder).as_posix()] = verdict
    return got


def test_every_hostile_file_ends_in_its_verdict_and_the_console_stays_clean(tmp_path, capfd):
    expected = make_hostile_folder(tmp_path)
    assert len(expected) >= 65
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        got = verdicts(tmp_path)
    assert got.keys() == expected.keys()
    wrong = {
        name: (got[name], verdict, fragment)
        for name, (verdict, fragment) in expected.items()
        if got[name][0] != verdict or fragment not in got[name][1]
    }
    assert wrong == {}
    assert capfd.readouterr() == ("", "")
    assert not warned
    assert before == Image.MAX_IMAGE_PIXELS


def test_threads_get_what_one_gets_and_leave_the_warnings_alone(tmp_path):
    make_hostile_folder(tmp_path)
    filters, shown = list(warnings.filters), warnings.showwarning
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(verdicts, [tmp_path] * 4)
    assert others == [first] * 3
    assert (list(warnings.filters), warnings.showwarning) == (filters, shown)


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_pictures_come_upright(read, number, format, options):
    _, pixels = read(encoded(rgb(), format, exif=oriented(number), **options))
    assert np.array_equal(pixels, UPRIGHT[number](pattern()))


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


@pytest.mark.parametrize(
    ("background", "colour"), [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#102030", (16, 32, 48))]
)
def test_transparency_shows_the_background(read, background, colour):
    opacity = np.arange(24 * 40).reshape(24, 40, 1) % 256
    rgba = Image.fromarray(np.dstack([pattern(), opacity.astype(np.uint8)]))
    share = opacity / 255
    reading, pixels = read(encoded(rgba, "PNG"), background=background)
    assert np.array_equal(pixels, np.rint(share * pattern() + (1 - share) * colour))
    assert reading.notes == (f"transparency laid on {background}",)

    grey = encoded(rgba.convert("LA"), "PNG")
    values = np.asarray(rgba.convert("L"))[..., None]
    assert np.array_equal(read(grey, background=background)[1], np.rint(share * values + (1 - share) * colour))


def test_the_palette_may_be_transparent(read):
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 1, 2, 3, 200, 0, 0])
    palette.putdata([0, 1, 2])
    assert read(encoded(palette, "PNG"))[1][0].tolist() == [[10, 20, 30], [1, 2, 3], [200, 0, 0]]
    assert read(encoded(palette, "PNG", transparency=1))[1][0].tolist() == [[10, 20, 30], [255] * 3, [200, 0, 0]]
    partly = encoded(palette, "PNG", transparency=bytes([255, 0, 51]))
    assert read(partly)[1][0].tolist() == [[10, 20, 30], [255] * 3, [244, 204, 204]]


@pytest.mark.parametrize("background", ["no colour", "#12345", "#ff000080", ""])
def test_a_background_is_an_opaque_colour(read, background):
    with pytest.raises(InputError, match=r"is no opaque colour; give a name such as white, or #rrggbb"):
        read(encoded(rgb(), "PNG"), background=background)


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


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_the_first_frame_is_read(read, format):
    reading, pixels = read(animation(format))
    assert "first of 3 frames" in reading.notes
    assert np.abs(pixels - pattern()).mean() < 12  # the other two are turned: 60 and more


@pytest.mark.parametrize("quality", range(10, 96, 5))
@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}])
def test_the_quality_of_a_jpeg_is_found(read, quality, options):
    assert abs(read(encoded(rgb(), "JPEG", quality=quality, **options))[0].jpeg_quality - quality) <= 2


def test_the_quality_belongs_to_jpeg_only(read):
    assert read(encoded(rgb(), "PNG"))[0].jpeg_quality is None
    assert read(encoded(rgb(), "TIFF", compression="jpeg"))[0].jpeg_quality is None
    assert read(encoded(rgb().convert("CMYK"), "JPEG", quality=60))[0].jpeg_quality == 60
    assert jpeg_quality([1] * 64) == 100
    assert jpeg_quality([255] * 64) == 1


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {}),
        ("JPEG2000", {}),
    ],
)
def test_no_part_of_a_picture_is_a_picture(read, format, options, capfd):
    noise = np.random.default_rng(0).integers(0, 40, (24, 40, 3), dtype=np.uint8) + pattern() // 2
    whole = encoded(Image.fromarray(noise), format, **options)
    read(whole)
    for share in np.linspace(0, 0.97, 40):
        with pytest.raises(InputError):
            read(whole[: int(len(whole) * share)])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_the_filters_of_warnings_do_not_matter(read, action):
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        reading, _ = read(encoded(rgb(), "JPEG", exif=oriented(6).tobytes()[:-12]), "a.jpg")
    assert any("decoder warns: Corrupt EXIF data" in note for note in reading.notes)


@pytest.mark.parametrize("changes", [1, 2])
def test_a_file_that_changes_while_it_is_read_is_read_once_more(tmp_path, monkeypatch, changes):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(rgb().rotate(180), "PNG"))
    complete, reads = encoded(rgb(), "PNG"), []
    read_bytes = Path.read_bytes

    def read_bytes_and_write(self):
        data = read_bytes(self)
        reads.append(data)
        if len(reads) <= changes:
            self.write_bytes(complete)
            os.utime(self, ns=(0, len(reads)))  # clocks are coarse
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes_and_write)
    if changes == 1:
        assert np.array_equal(np.asarray(read_picture(path).image), pattern())
    else:
        with pytest.raises(InputError, match=r"a.png changes while it is read; try again when nothing writes to it"):
            read_picture(path)
    assert len(reads) == 2


def test_the_bytes_are_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(rgb(), "JPEG"))
    read_bytes, reads = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or read_bytes(self))
    reading = read_picture(path)
    assert reads == [path]
    assert reading.sha256 == hashlib.sha256(read_bytes(path)).hexdigest()
    assert open_picture(str(path)).tobytes() == reading.image.tobytes()


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2**40)  # takes no room
    reasons = {
        "pipe.png": "is not a regular file",
        "folder.png": "is not a regular file",
        "endless.png": "is not a regular file",
        "loop.png": "is not readable",
        "gone.png": "is not readable",
        "huge.png": "is a file of 1099511627776 bytes, too large",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=f"{name} {reason}"):
            read_picture(tmp_path / name)


def test_the_limit_on_pixels_is_ours_up_to_twice_that_of_pillow(read, monkeypatch):
    data = encoded(rgb(), "PNG")  # 960 pixels
    with pytest.raises(InputError, match=r"a.png is 40 x 24 pixels, more than 959; make it smaller or remove it"):
        read(data, max_pixels=959)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # from here Pillow warns
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert read(data, max_pixels=960)[0].notes == ()
    assert not warned
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # from here it refuses
    with pytest.raises(InputError, match=r"a.png has more than 800 pixels, too large to decode"):
        read(data)


def test_the_suffixes_are_those_of_pillow():
    known = Image.registered_extensions()
    for format, suffixes in FORMATS.items():
        assert {known[suffix] for suffix in suffixes} <= {format, "JPEG"}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a b/\N{CJK UNIFIED IDEOGRAPH-6C34}.png", "a b/\N{CJK UNIFIED IDEOGRAPH-6C34}.png"),
        ("a\nb.png", r"'a\nb.png'"),
        (os.fsdecode(b"\xe9.png"), r"'\udce9.png'"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.a", r"'\u202egpj.a'"),
    ],
)
def test_names_are_shown_on_one_line(path, shown):
    assert printable(path) == shown
    shown.encode()
