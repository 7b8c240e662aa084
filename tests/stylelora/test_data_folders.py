"""kohya's folders `10_cat`, and what is written about pictures."""

import json
import logging
import shutil

import pytest

from stylelora.data.scan import scan_folder
from stylelora.records import InputError
from tests.runs import draw_pictures


@pytest.fixture
def kohya(pictures, tmp_path):
    """Two folders of repeated pictures; the second has no captions."""
    root = tmp_path / "train"
    for name, numbers in (("10_zqx fox", range(5)), ("03_a house", range(5, 8))):
        (root / name).mkdir(parents=True)
        for number in numbers:
            shutil.copy(pictures / f"{number}.bmp", root / name)
            if name.startswith("10"):
                shutil.copy(pictures / f"{number}.txt", root / name)
    return root


def listing(folder, *rows):
    for text in folder.glob("*.txt"):  # which say something else
        text.unlink()
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_folders_say_how_often_their_pictures_are_shown(kohya, caplog):
    found = scan_folder(kohya)
    assert [picture.path.relative_to(kohya).as_posix() for picture in found] == [
        *(f"03_a house/{number}.bmp" for number in (5, 6, 7)),
        *(f"10_zqx fox/{number}.bmp" for number in range(5)),
    ]
    assert [picture.repeats for picture in found] == [3] * 3 + [10] * 5
    assert [picture.text for picture in found[:4]] == ["a house"] * 3 + ["a thing with number 0"]
    assert caplog.text.count("have no caption") == 1
    assert "3 of 3 pictures in" in caplog.text and "they get 'a house', by the folder's name" in caplog.text


@pytest.mark.parametrize(
    ("name", "trigger", "text"),
    [
        ("1_zqx fox", "", "zqx fox"),
        ("1_zqx_fox", "", "zqx_fox"),  # as kohya's scripts take it
        ("1_zqx fox", "zqx", "fox"),
        ("1_zqx_fox", "zqx", "fox"),
        ("1_zqx", "zqx", ""),
    ],
)
def test_a_folders_name_is_the_caption_of_pictures_without_one(tmp_path, name, trigger, text):
    draw_pictures(tmp_path / "train" / name, 2)
    (tmp_path / "train" / name / "1.txt").unlink()
    assert [picture.text for picture in scan_folder(tmp_path / "train", trigger=trigger)] == [
        "a thing with number 0",
        text,
    ]


def test_other_folders_are_left_out_and_said(kohya, caplog):
    for name in ("0_off", "drafts", "5"):
        draw_pictures(kohya / name, 1)
    (kohya / "notes").mkdir()
    assert len(scan_folder(kohya)) == 8
    assert "not called N_name are left out: 0_off, 5, drafts\n" in caplog.text


def test_pictures_beside_such_folders_are_refused(kohya):
    draw_pictures(kohya, 1)
    with pytest.raises(InputError, match="holds both pictures and folders of repeated pictures"):
        scan_folder(kohya)


def test_other_folders_beside_pictures_do_not_matter(pictures, tmp_path, caplog):
    root = shutil.copytree(pictures, tmp_path / "style")
    draw_pictures(root / "drafts", 1)
    (root / "3_empty").mkdir()
    assert len(scan_folder(root)) == 8
    assert caplog.text == ""


def test_a_year_in_a_folders_name_is_said(tmp_path, caplog):
    draw_pictures(tmp_path / "train" / "200_a", 1)
    scan_folder(tmp_path / "train")
    assert "times per epoch" not in caplog.text
    draw_pictures(tmp_path / "train" / "2024_sketches", 1)
    assert {picture.repeats for picture in scan_folder(tmp_path / "train")} == {200, 2024}
    assert "2024_sketches in" in caplog.text and "its pictures are shown 2024 times per epoch" in caplog.text


def test_a_folder_that_is_itself_called_so_is_said(kohya, caplog):
    found = scan_folder(kohya / "10_zqx fox")
    assert {picture.repeats for picture in found} == {1} and len(found) == 5
    assert "for 10 repeats give --data.repeats 10, or its parent as --data.root" in caplog.text


def test_folders_of_pictures_by_other_names_are_named(tmp_path):
    draw_pictures(tmp_path / "style" / "foxes", 1)
    with pytest.raises(InputError, match=r"holds no pictures .* but folders of them \(foxes\); call these N_name"):
        scan_folder(tmp_path / "style")


def test_a_listing_belongs_into_the_folder_of_its_pictures(kohya):
    listing(kohya, {"file_name": "10_zqx fox/0.bmp", "text": "x"})
    with pytest.raises(InputError, match="describes no pictures beside it; move its lines into 03_a house, 10_zqx fox"):
        scan_folder(kohya)
    (kohya / "metadata.jsonl").unlink()
    listing(kohya / "03_a house", {"file_name": "6.bmp", "text": "six", "repeats": 2})
    found = scan_folder(kohya)[:3]
    assert [(picture.text, picture.repeats) for picture in found] == [("a house", 3), ("six", 6), ("a house", 3)]


def test_what_cannot_be_read_is_named_with_its_folder(kohya):
    (kohya / "03_a house" / "5.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match=r"1 pictures in .* cannot be read \(03_a house/5.bmp\)"):
        scan_folder(kohya)


def test_captions_may_stand_in_caption_files(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "style")
    (root / "0.txt").rename(root / "0.caption")
    assert scan_folder(root)[0].text == "a thing with number 0"
    (root / "0.txt").write_text("another")
    with pytest.raises(InputError, match=r"0.txt and 0.caption differ; keep one of them"):
        scan_folder(root)


def test_a_listing_may_hold_several_captions_and_repeats(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "style")
    listing(root, {"file_name": "0.bmp", "texts": ["one ", "two", "{a|b}"], "repeats": 4},
            *({"file_name": f"{i}.bmp", "text": "x"} for i in range(1, 8)))  # fmt: skip
    first, second, *_ = scan_folder(root)
    assert (first.texts, first.repeats) == (("one", "two", "{a|b}"), 4)
    assert (second.texts, second.repeats) == (("x",), 1)
    assert scan_folder(root, wildcards=True)[0].texts == ("one", "two", "a", "b")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"texts": []}, "line 1 needs a list of captions as `texts`"),
        ({"texts": ["a", " "]}, "line 1 needs a list of captions as `texts`, none empty"),
        ({"texts": "a cat"}, "line 1 needs a list of captions as `texts`"),
        ({"texts": ["a"], "text": "b"}, "and no `text` beside it"),
        ({"texts": ["a", 1]}, "line 1 is not"),
        ({"texts": None}, "line 1 is not"),
        ({"text": "a", "repeats": 0}, "line 1 has repeats 0; give a whole number from 1 to 1000000"),
        ({"text": "a", "repeats": 1.5}, "line 1 has repeats 1.5; give"),
        ({"text": "a", "repeats": True}, "line 1 has repeats true; give"),
        ({"text": "a", "repeats": None}, "line 1 has repeats null; give"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path, row, sentence):
    root = draw_pictures(tmp_path / "style", 1)
    listing(root, {"file_name": "0.bmp", **row})
    with pytest.raises(InputError, match=sentence):
        scan_folder(root)


def test_two_rows_of_one_picture_must_agree(tmp_path):
    root = draw_pictures(tmp_path / "style", 1)
    listing(root, *[{"file_name": "0.bmp", "text": "a"}] * 2)
    assert scan_folder(root)[0].texts == ("a",)
    listing(root, {"file_name": "0.bmp", "text": "a"}, {"file_name": "0.bmp", "text": "b"})
    with pytest.raises(InputError, match=r"line 2 describes 0\.bmp again; give one line several `texts`"):
        scan_folder(root)


def test_lines_and_alternatives_are_drawn_only_if_asked_for(tmp_path, caplog):
    root = draw_pictures(tmp_path / "style", 3)
    (root / "0.txt").write_text("a fox\n\n  a red fox \n")
    (root / "1.txt").write_text("a {red|blue} {{fox}}")
    with caplog.at_level(logging.WARNING):
        plain = [picture.texts for picture in scan_folder(root)]
    assert plain == [("a fox\n\n  a red fox",), ("a {red|blue} {{fox}}",), ("a thing with number 2",)]
    assert caplog.text.count("\n") == 1 and "2 captions in" in caplog.text and "--data.wildcards true" in caplog.text
    caplog.clear()
    drawn = [picture.texts for picture in scan_folder(root, wildcards=True)]
    assert drawn == [("a fox", "a red fox"), ("a red {fox}", "a blue {fox}"), ("a thing with number 2",)]
    assert caplog.text == ""
