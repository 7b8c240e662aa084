"""Folders, captions and the split."""

import json
import random
import shutil

import pytest
from PIL import Image

from stylelora.data.dataset import StyleDataset
from stylelora.data.framing import Framing
from stylelora.data.reading import open_picture
from stylelora.data.scan import check_decodable, scan_folder, split_by_content
from stylelora.data.wording import Wording
from stylelora.records import InputError, Picture
from tests.runs import draw_pictures


@pytest.fixture
def folder(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "style")


def write_metadata(folder, rows):
    for text in folder.glob("*.txt"):  # which say something else
        text.unlink()
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_captions_stand_beside_the_pictures(folder):
    (folder / "notes.md").write_text("no picture")
    (folder / "0.txt").write_text("  ein Fuchs, 狐 \n", encoding="utf-8")
    found = scan_folder(folder)
    assert [picture.path.name for picture in found] == [f"{i}.bmp" for i in range(8)]
    assert found[0].text == "ein Fuchs, 狐"
    assert found[3].text == "a thing with number 3"
    assert len({picture.sha256 for picture in found}) == 8


def test_a_listing_serves_without_text_files(folder):
    write_metadata(folder, [{"file_name": f"{i}.bmp", "text": f"listed {i}", "source": "x"} for i in range(8)])
    assert [picture.text for picture in scan_folder(folder)] == [f"listed {i}" for i in range(8)]


def test_a_listing_may_hold_any_letter(folder):
    write_metadata(folder, [])
    rows = [json.dumps({"file_name": f"{i}.bmp", "text": "a\u2028cat"}, ensure_ascii=False) for i in range(8)]
    (folder / "metadata.jsonl").write_text("\r\n".join(rows) + "\n\n", encoding="utf-8")
    assert {picture.text for picture in scan_folder(folder)} == {"a\u2028cat"}


def test_a_byte_order_mark_is_no_part_of_a_caption(folder):
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfa fox")
    assert scan_folder(folder)[0].text == "a fox"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_picture(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / f"a.{suffix}", exif=exif)
    (tmp_path / "a.txt").write_text("a thing")
    (picture,) = scan_folder(tmp_path)
    assert picture.size == open_picture(picture.path).size == ((30, 20) if orientation < 5 else (20, 30))


def test_a_picture_that_ends_too_soon_is_found_when_it_is_decoded(folder):
    for i in (2, 5):
        (folder / f"{i}.bmp").write_bytes((folder / f"{i}.bmp").read_bytes()[:2000])
    found = scan_folder(folder)
    check_decodable(folder, [found[0], found[1]])
    with pytest.raises(InputError, match=r"2 pictures in .* cannot be read \(2.bmp, 5.bmp\); replace or remove them"):
        check_decodable(folder, found)


def test_everything_wrong_is_named_at_once(folder):
    for name in ("1", "2"):
        (folder / f"{name}.txt").unlink()
    (folder / "3.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"3 of 8 pictures .*\(1.bmp, 2.bmp, 3.bmp\)"):
        scan_folder(folder)
    for i in range(8):
        (folder / f"{i}.txt").write_text("x")
    for i in range(6):
        (folder / f"{i}.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match=r"6 pictures .*\(0.bmp, 1.bmp, 2.bmp, 3.bmp, 4.bmp, \.\.\.\)"):
        scan_folder(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "gone.png", "text": "x"}', r"names 1 missing pictures \(gone.png\)"),
        ('{"file_name": "0.bmp"', "line 9 is not"),
        ('{"file_name": "0.bmp"}', "line 9 is not"),
        ('["0.bmp", "x"]', "line 9 is not"),
        ('{"file_name": "0.bmp", "text": 5}', "line 9 is not"),
        ('{"file_name": "0.bmp", "text": null}', "line 9 is not"),
    ],
)
def test_a_bad_line_is_refused(folder, line, message):
    write_metadata(folder, [{"file_name": f"{i}.bmp", "text": "x"} for i in range(8)])
    with (folder / "metadata.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=message):
        scan_folder(folder)


def test_text_of_another_encoding_is_refused(folder):
    (folder / "0.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        scan_folder(folder)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        scan_folder(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        scan_folder(tmp_path / "gone")


# split


def by_hash(fill):
    return Picture(folder=None, name="", text="", sha256=fill, group=fill, size=(64, 64))


def test_a_picture_stays_on_its_side(tmp_path):
    first = draw_pictures(tmp_path / "first", 30)
    train, held_out = split_by_content(scan_folder(first), 0.3)
    assert len(train) + len(held_out) == 30
    sides = {picture.sha256: "train" for picture in train} | {picture.sha256: "held out" for picture in held_out}

    second = draw_pictures(tmp_path / "second", 60)
    for i in range(10):
        (second / f"{i}.bmp").rename(second / f"z{i}.bmp")
        (second / f"{i}.txt").rename(second / f"z{i}.txt")
        shutil.copy(second / f"z{i}.bmp", second / f"twin{i}.bmp")
        (second / f"twin{i}.txt").write_text("another caption")
    train, held_out = split_by_content(scan_folder(second), 0.3)
    assert len(train) + len(held_out) == 70
    later = {picture.sha256: "train" for picture in train}
    assert not later.keys() & {picture.sha256 for picture in held_out}  # equal files are on one side
    later |= {picture.sha256: "held out" for picture in held_out}
    assert {name: later[name] for name in sides} == sides


def test_the_share_is_that_of_the_hash():
    pictures = [by_hash(f"{value:08x}") for value in (0, 0x3FFFFFFF, 0x40000000, 0xFFFFFFFF)]
    train, held_out = split_by_content(pictures, 0.25)
    assert (held_out, train) == (pictures[:2], pictures[2:])
    assert split_by_content(pictures, 0.0) == (pictures, [])


@pytest.mark.parametrize("share", [1e-9, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("count", range(4, 20))
def test_at_least_two_are_on_each_side(count, share):
    """And with more pictures all keep their side whose side was not too small."""
    drawn = random.Random(count)
    pictures = [by_hash(f"{drawn.randrange(16**64):064x}") for _ in range(count)]
    train, held_out = split_by_content(pictures, share)
    assert sorted(map(pictures.index, train + held_out)) == list(range(count))
    below = [picture for picture in pictures if int(picture.group, 16) / 16**64 < share]
    first = sorted(pictures, key=lambda picture: picture.group)
    expected = below if 2 <= len(below) <= count - 2 else first[:2] if len(below) < 2 else first[:-2]
    assert held_out == [picture for picture in pictures if picture in expected]


def test_near_duplicates_stay_together_where_a_side_is_filled_up():
    pictures = [by_hash(f"{value:064x}") for value in (1, 1, 1, 2, 3)]
    train, held_out = split_by_content(pictures, 1e-70)
    assert (held_out, train) == (pictures[:3], pictures[3:])


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (
            [1, 2, 3],
            "3 pictures are too few to train on two and hold out two others; give at least four different ones",
        ),
        ([1, 1, 1, 2], "4 pictures in 2 groups of near-duplicates are too few to train on two and hold out two"),
    ],
)
def test_too_few_pictures_are_refused(groups, sentence):
    pictures = [by_hash(f"{group:064x}") for group in groups]
    with pytest.raises(InputError, match=f"^{sentence}.*, or held_out 0 to train on all$"):
        split_by_content(pictures, 0.4)
    assert split_by_content(pictures, 0.0) == (pictures, [])


def test_training_says_which_pictures_lose_most_of_themselves(tmp_path, caplog):
    draw_pictures(tmp_path, 6)
    Image.new("RGB", (400, 50)).save(tmp_path / "1.bmp")
    Image.new("RGB", (50, 130)).save(tmp_path / "4.bmp")
    for buckets in (True, False):
        dataset = StyleDataset(tmp_path, 0.0, Framing(64, buckets=buckets), Wording("zqx"))
        dataset.scan()
        dataset.choose_sizes(8)
        said = [message for message in caplog.messages if "cropping" in message]
        assert len(said) == (0 if buckets else 1)  # there are buckets of 128x32
    assert (
        f"2 of 6 pictures in {tmp_path} lose more than half of their area to cropping, 1.bmp the most (88 %)" in said[0]
    )


def test_training_refuses_pictures_of_an_absurd_size(tmp_path):
    draw_pictures(tmp_path, 4)
    Image.new("1", (70_000, 1)).save(tmp_path / "1.png")
    (tmp_path / "1.bmp").unlink()
    with pytest.raises(InputError, match=r"1 pictures in .* have more than 134217728 pixels, or 65536 .* \(1.png\)"):
        scan_folder(tmp_path)
    Image.new("1", (14_000, 14_000)).save(tmp_path / "1.png")  # Pillow itself refuses it
    with pytest.raises(InputError, match=r"1 pictures in .* have more than 134217728 pixels"):
        scan_folder(tmp_path)
