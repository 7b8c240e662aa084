"""Captions in listings, as people and programs write them."""

import json
import unicodedata
from pathlib import Path

import pytest

from stylelora.data.listings import metadata
from stylelora.data.scan import scan_folder
from stylelora.preprocess.captioning import Captioning, CaptionOptions, find_captions
from stylelora.preprocess.normalise import Row
from stylelora.records import InputError
from tests.runs import draw_pictures

HEAD = "file_name,text\n"
NFC, NFD = (unicodedata.normalize(form, "Löwe é") for form in ("NFC", "NFD"))


def texts_of(listings):
    return {path: listed.text for path, listed in metadata(listings).items()}


def table(folder, text):
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    return [folder / "metadata.csv"]


def test_metadata_of_a_folder_and_of_those_below(tmp_path):
    (tmp_path / "sub").mkdir()
    rows = [{"file_name": "a.png", "text": " a  cat"}, {"file_name": "sub/b.png", "caption": "a dog"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "sub" / "metadata.csv").write_text('file_name,text\nc.png,"a red, round apple"\n')
    want = {"a.png": "a cat", "sub/b.png": "a dog", "sub/c.png": "a red, round apple"}
    listings = [tmp_path / "metadata.jsonl", tmp_path / "sub" / "metadata.csv"]
    assert texts_of(listings) == {tmp_path / name: text for name, text in want.items()}


def test_metadata_as_people_write_it(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "./x/../a.png", "text": "a\\u2028cat\u2028 here"}\n')
    (tmp_path / "metadata.csv").write_text('file_name,caption\r\nb.png,"a cat\r\nthat sits"\r\n/abs/c.png,a dog\r\n')
    found = texts_of([tmp_path / "metadata.jsonl", tmp_path / "metadata.csv"])
    want = {tmp_path / "a.png": "a cat here", tmp_path / "b.png": "a cat that sits", Path("/abs/c.png"): "a dog"}
    assert found == want


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file_name": "a'),
        ("metadata.jsonl", '{"name": "a.png", "text": "x"}\n'),
        ("metadata.jsonl", '["a.png", "x"]\n'),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 3}\n'),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file_name": "a.png", "text": "y"}'),
        ("metadata.csv", "name,text\na.png,x\n"),
    ],
)
def test_damaged_metadata_is_refused_with_its_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name} line \d"):
        metadata([tmp_path / name])


def test_what_preprocess_leaves_out_of_metadata_is_said(tmp_path, caplog):
    listing = tmp_path / "metadata.jsonl"
    listing.write_text('{"file_name": "a.png", "text": "x", "repeats": 3}\n{"file_name": "b.png", "text": "y"}\n')
    assert texts_of([listing]) == {tmp_path / "a.png": "x", tmp_path / "b.png": "y"}
    assert "gives 1 pictures repeats, which are left out" in caplog.text
    listing.write_text('{"file_name": "a.png", "texts": ["x", "y"]}\n')
    with pytest.raises(InputError, match=r"metadata.jsonl line 1 has `texts`, but preprocess needs one `text`"):
        metadata([listing])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "a.png,a cat\nb.png,a red, round cat\n", 3, "has 3 fields, but line 1 names 2; put texts with commas"),
        (HEAD + "a.png a cat\n", 2, "has 1 fields, but line 1 names 2"),
        ("file_name,text,file_name\na.png,a cat,b.png\n", 1, "names a column twice"),
        ("file_name,words\na.png,a cat\n", 1, "has no file_name with a text; name the columns there"),
        ("file_name;text\na.png;a cat\n", 1, "has no file_name with a text; name the columns there"),
        (HEAD + 'a.png,"a cat\nb.png,a dog\n', 3, "is no CSV"),
        (HEAD + 'a.png,"a "red" cat"\n', 2, "is no CSV"),
        (HEAD + f"a.png,{'a' * 200_000}\n", 2, "is no CSV"),
        ("file_name,text,caption\na.png,a cat,a dog\n", 2, "has another `caption` than `text`"),
        (HEAD + "a.png,a cat\na.png,a dog\n", 3, "gives a.png another caption than .*metadata.csv line 2; keep one"),
    ],
)
def test_a_table_of_which_something_would_be_lost_is_refused_with_its_line(tmp_path, text, line, said):
    with pytest.raises(InputError, match=rf"metadata.csv line {line} {said}"):
        metadata(table(tmp_path, text))


def test_a_table_of_which_nothing_is_lost_is_read(tmp_path):
    text = 'file_name, text ,more\na.png,"a ""red"", round cat"\n\nb.png,"two\nlines",x,,\nc.png,a dog\n'
    want = {"a.png": 'a "red", round cat', "b.png": "two lines", "c.png": "a dog"}
    assert texts_of(table(tmp_path, text)) == {tmp_path / name: text for name, text in want.items()}


def test_two_listings_that_disagree_are_both_named(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}\n')
    with pytest.raises(
        InputError, match=r"metadata.jsonl line 1 gives a.png another caption than .*metadata.csv line 2"
    ):
        metadata([*table(tmp_path, HEAD + "a.png,a cat\n"), tmp_path / "metadata.jsonl"])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog", "text": "a cat"}\n')
    with pytest.raises(InputError, match="is there twice"):
        metadata([tmp_path / "metadata.jsonl"])


def options(*sources):
    return CaptionOptions(sources, ["a drawing of"], "zqx", Captioning())


def test_a_text_file_and_a_listing_that_disagree_are_no_caption(tmp_path):
    listings = table(tmp_path, HEAD + "a.png,a cat\nb.png,zqx a dog\nc.png,a house\n")
    for name, text in (("a", "a fish"), ("b", "a drawing of a dog")):
        (tmp_path / f"{name}.txt").write_text(text)
    rows = [Row(f"{name}.png", "accepted", ()) for name in "abc"]
    for sources in (("sidecar", "metadata"), ("metadata", "sidecar")):
        found, why = find_captions(tmp_path, rows, tmp_path, listings, options(*sources), {})
        assert {name: caption.text for name, caption in found.items()} == {"b.png": "a dog", "c.png": "a house"}
        assert list(why) == ["a.png"]
        assert "has another caption than" in why["a.png"] and "metadata.csv line 2; keep one" in why["a.png"]
    found, why = find_captions(tmp_path, rows, tmp_path, listings, options("sidecar"), {})
    assert found["a.png"].text == "a fish"


@pytest.mark.parametrize(("there", "written"), [(NFC, NFD), (NFD, NFC)])
def test_names_are_the_same_in_either_spelling(tmp_path, there, written):
    draw_pictures(tmp_path, 1)
    (tmp_path / "0.bmp").rename(tmp_path / f"{there}.bmp")
    (tmp_path / "0.txt").unlink()
    row = Row(f"{there}.bmp", "accepted", ())
    listings = table(tmp_path, f"file_name,text\n{written}.bmp,ein {NFD}\n")
    found, _ = find_captions(tmp_path, [row], tmp_path, listings, options("metadata"), {})
    assert found[row.source].text == f"ein {NFC}"
    listings[0].unlink()
    (tmp_path / f"{written}.txt").write_text(f"ein {NFD}", encoding="utf-8")
    assert scan_folder(tmp_path)[0].text == f"ein {NFC}"
    (tmp_path / f"{written}.txt").unlink()
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": f"{written}.bmp", "text": NFD}))
    (picture,) = scan_folder(tmp_path)
    assert (picture.name, picture.text) == (f"{there}.bmp", NFC) and picture.path.is_file()


def test_training_refuses_another_caption_in_a_text_file_or_table(tmp_path):
    draw_pictures(tmp_path, 2)  # its text files say `a thing with number 0`
    rows = [{"file_name": f"{i}.bmp", "text": f"thing  with number {i}"} for i in range(2)]
    listing = tmp_path / "metadata.jsonl"
    listing.write_text("\n".join(map(json.dumps, rows)))
    table(tmp_path, HEAD + "0.bmp,thing with number 0\n")
    assert [picture.text for picture in scan_folder(tmp_path)] == [row["text"] for row in rows]
    table(tmp_path, HEAD + "0.bmp,another\n")
    with pytest.raises(InputError, match=r"metadata.jsonl has another caption for 0.bmp than .*metadata.csv line 2"):
        scan_folder(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "1.txt").write_text("another")
    with pytest.raises(InputError, match=r"metadata.jsonl has another caption for 1.bmp than the text file beside it"):
        scan_folder(tmp_path)
