"""Reading a picture in any state, against arithmetic of its own; what each kind of file comes to is in hostile.py."""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylelora.data import reading
from stylelora.data.reading import FORMATS, TooLarge, jpeg_quality, open_picture, read_picture
from stylelora.preprocess.find import find_files
from stylelora.records import InputError
from stylelora.texts import printable
from tests.hostile import animation, encoded, make_hostile_folder, oriented, pattern, rgb

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
                verdict = ("converted" if reading.notes else "accepted", "; ".join(reading.notes))
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


@pytest.mark.parametrize(
    ("background", "colour"), [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#102030", (16, 32, 48))]
)
def test_transparency_shows_the_background(read, background, colour):
    opacity = np.arange(24 * 40).reshape(24, 40, 1) % 256
    rgba = Image.fromarray(np.dstack([pattern(), opacity.astype(np.uint8)]))
    share = opacity / 255
    reading, pixels = read(encoded(rgba, "PNG"), background=background)
    assert np.array_equal(pixels, np.rint(share * pattern() + (1 - share) * colour))
    assert reading.notes == (f"transparency flattened onto {background}",)

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
        with pytest.raises(InputError, match=r"a.png changed while it was read; try again when nothing writes to it"):
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
    for name, most in (("MOST_PIXELS", 959), ("LONGEST", 39)):
        with monkeypatch.context() as patch:
            patch.setattr(reading, name, most)
            with pytest.raises(TooLarge, match=rf"a.png is 40 x 24 pixels, more than .*{most}.*; make it smaller"):
                read(data)
    monkeypatch.setattr(reading, "MOST_PIXELS", 960)
    monkeypatch.setattr(reading, "LONGEST", 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # from here Pillow warns
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert read(data)[0].notes == ()
    assert not warned
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # from here it refuses
    with pytest.raises(TooLarge, match=r"a.png has more than 800 pixels, too large to decode"):
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
