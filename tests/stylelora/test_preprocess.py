"""From a raw folder to a training set."""

import os
import signal

import numpy as np
import pytest
from PIL import Image

from stylelora.data.scan import scan_folder
from stylelora.preprocess.captioning import Captioning
from stylelora.preprocess.census import histogram
from stylelora.preprocess.normalise import Conversion, _run
from stylelora.preprocess.preprocess import PictureOptions
from stylelora.records import InputError
from tests.hostile import make_hostile_folder
from tests.raw import THINGS, census, noise, pictures, run

CONVERSION = Conversion(64, "lanczos", "down", "keep", "white")


def test_a_good_folder_becomes_a_training_set(raw):
    before = {path: path.read_bytes() for path in raw.rglob("*.*")}
    target = run(raw)
    assert {path: path.read_bytes() for path in raw.rglob("*.*")} == before
    found = scan_folder(target)
    assert [picture.text for picture in found] == [f"a {thing}" for thing in THINGS]
    for i, picture in enumerate(found):
        assert picture.path.with_suffix(".txt").read_text() == f"zqx, a {THINGS[i]}\n"
        with Image.open(picture.path) as image:
            want = noise(i).resize((77, 64), Image.Resampling.LANCZOS)
            assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
            assert np.array_equal(np.asarray(image), np.asarray(want))
    assert {row["verdict"] for row in pictures(target)} == {"accepted"}
    (raw / "LICENSE.txt").write_text("free")
    rows = census(run(raw))
    assert (rows["sub/0.txt"]["verdict"], rows["LICENSE.txt"]["verdict"]) == ("caption", "ignored")
    page = (target / "census.html").read_text()
    assert page.count("<figure") == 6
    assert "a robot" in page
    assert [path.name for path in raw.parent.iterdir() if path.name.startswith(".")] == []


def test_repeats_in_names_of_folders_are_kept(raw, capsys):
    (raw / "sub").rename(raw / "10_things")
    (raw / "ten_10").mkdir()
    for name in ("4.png", "4.txt"):
        (raw / "10_things" / name).rename(raw / "ten_10" / name)
    found = scan_folder(run(raw))
    assert {picture.text: picture.repeats for picture in found} == {
        f"a {thing}": 1 if thing == "apple" else 10 for thing in THINGS
    }
    assert "5 of them have `repeats` in metadata.jsonl, by their folders' names" in capsys.readouterr().out


@pytest.mark.slow
def test_a_picture_that_kills_its_reader_is_rejected_and_no_other(raw):
    """Each of these jobs runs in a process of its own; `dying` ends it as a crash in a codec does."""
    jobs = [(raw / "sub" / f"{i}.png", f"{i}", raw, CONVERSION, None, raw) for i in range(6)]
    jobs[2] = (Dying(), *jobs[2][1:])
    rows = {row.source: row for row in _run(jobs, 2)}
    assert {name: row.verdict for name, row in rows.items()} == {str(i): "accepted" for i in range(6)} | {
        "2": "rejected"
    }
    assert "crashed" in rows["2"].notes[0]


class Dying:
    """Stands in for a path; whoever opens it dies."""

    def __fspath__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        os.kill(os.getpid(), signal.SIGKILL)


def test_pixel_art_is_brought_back_to_its_pixels(raw):
    tiles = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in range(6)]
    for i, tile in enumerate(tiles):
        Image.fromarray(tile.repeat(32, 0).repeat(32, 1)).save(raw / "sub" / f"{i}.png")
    target = run(raw, interpolation="nearest", resolution=512)
    for picture, tile in zip(scan_folder(target), tiles, strict=True):
        assert np.array_equal(np.asarray(Image.open(picture.path)), tile)
    assert all(row["grid"] == [16, 16] and "16x16" in row["notes"][0] for row in pictures(target))


def test_every_hostile_file_ends_in_its_verdict(tmp_path):
    raw = tmp_path / "raw"
    expected = make_hostile_folder(raw)
    expected |= {name: ("oversized", expected[name][1]) for name in ("bomb.png", "smaller bomb.png")}
    target = run(raw, captions=["sidecar", "template"], captioning=Captioning("a {name}"), strict=False, workers=2)
    rows = census(target)
    wrong = {}
    for name, (verdict, fragment) in expected.items():
        row = rows.get(name)
        said = "; ".join(row["notes"]) if row else "no row"
        if row is None or row["verdict"] != verdict or fragment not in said:
            wrong[name] = (verdict, fragment, row and row["verdict"], said)
    assert wrong == {}
    assert len(expected) >= 60
    assert len(scan_folder(target)) == sum(row["used"] for row in rows.values()) > 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trigger": None}, "has no trigger word"),
        ({"allow": ["blur"]}, "no problem is called 'blur'"),
        ({"allow": "blurred,jpeg", "drop": ["jpeg"]}, "named twice"),
        ({"workers": 0}, "workers"),
        ({"base": "gone"}, "base 'gone' does not exist"),
        ({"captions": "retrieval", "captioning": Captioning(device="tpu9")}, "device 'tpu9' cannot be used"),
        ({"captions": ["sidecars"]}, "caption source 'sidecars' is unknown"),
        ({"captions": []}, "at least one source"),
        ({"template": "{trigger} {name}"}, "may only hold"),
        ({"pictures": PictureOptions(background="no colour")}, "background"),
        ({"resolution": 0}, "resolution"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(raw, options, said):
    with pytest.raises(InputError, match=said):
        run(raw, **options)
    assert not (raw.parent / "data").exists()


def test_training_goes_on_with_what_preprocess_was_given(raw):
    from datamodules import Pixelart, Watercolor

    target = str(run(raw, interpolation="nearest", template="{text} in {trigger}"))
    data = Watercolor(root=target)
    assert (data.trigger, data.dataset.framing.interpolation, data.caption("a cat")) == (
        "zqx",
        "nearest",
        "a cat in zqx",
    )
    data = Pixelart(root=target, trigger="abc", interpolation="box", template="{trigger}: {text}")
    assert (data.dataset.framing.interpolation, data.caption("a cat")) == ("box", "abc: a cat")
    assert Watercolor(root=str(raw)).trigger == "wcstyle"


def test_a_set_of_before_interpolation_got_its_name_is_scaled_as_it_was(raw):
    from datamodules import Watercolor

    target = run(raw, interpolation="nearest")
    text = (target / "census.json").read_text()
    assert text.count('"interpolation": "nearest"') == 1
    (target / "census.json").write_text(text.replace('"interpolation": "nearest"', '"kernel": "nearest"'))
    assert Watercolor(root=str(target)).dataset.framing.interpolation == "nearest"


def test_pictures_by_their_shorter_side_in_bins_that_double():
    bars = histogram([32, 63, 64, 300], 128)
    assert [(bar["label"], bar["count"], bar["height"], bar["small"]) for bar in bars] == [
        ("32-63", 2, 100, True),
        ("64-127", 1, 50, True),
        ("128-255", 0, 0, False),
        ("256-511", 1, 50, False),
    ]
    assert histogram([], 128) == []


def test_pictures_are_described_in_their_turn_and_once(raw, monkeypatch):
    asked = []

    def captioner(images):
        asked.append(len(images))
        return ["it"] * len(images)

    monkeypatch.setattr("stylelora.preprocess.preprocess.load_captioners", lambda options: {"blip": captioner})
    (raw / "sub" / "0.txt").unlink()
    (raw / "sub" / "1.txt").write_bytes(b"\xff\xfe\xfa")
    for _ in range(2):  # the second run asks nothing again
        with pytest.raises(InputError, match="--allow no-caption,"):
            run(raw, captions="sidecar,blip")
    assert asked == [1]
    rows = census(run(raw, captions="sidecar,blip", allow="no-caption"))
    assert (rows["sub/0.png"]["caption"], rows["sub/0.png"]["caption_source"]) == ("zqx, it", "blip")
    assert "not UTF-8" in rows["sub/1.png"]["problems"]["no-caption"], "a damaged caption is not replaced by another"
