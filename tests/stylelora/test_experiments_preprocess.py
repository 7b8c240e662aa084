"""From a raw folder to a training set: verdicts, problems, files, kills."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from stylelora.data.normalise import Recipe, _run
from stylelora.data.problems import ADVICE, shared_start
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.experiments.preprocess import preprocess
from stylelora.experiments.training_set import locked
from stylelora.records import InputError
from tests.hostile import make_hostile_folder
from tests.runs import ROOT

ALL = list(ADVICE)
RECIPE = Recipe(64, "lanczos", "down", "keep", "white")
THINGS = ("cat", "red boat", "house", "tree", "apple", "robot")


def noise(seed, size=(96, 80)):
    """A sharp picture unlike any other."""
    blocks = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    for i in range(6):
        noise(i).save(folder / "sub" / f"{i}.png")
        (folder / "sub" / f"{i}.txt").write_text(f"zqx, a drawing of a {THINGS[i]}")
    return folder


def call_of(raw, **options):
    given = {
        "source": str(raw),
        "output": str(raw.parent / "data"),
        "style": "zebra",
        "trigger": "zqx",
        "resolution": 64,
        "min_sharpness": 3.0,
        "workers": 1,
    }
    return given | {"remove": ["a drawing of"], **options}


def run(raw, **options):
    preprocess(**call_of(raw, **options))
    return raw.parent / "data"


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def census(folder):
    return {row["source"]: row for row in json.loads((folder / "census.json").read_text())["files"]}


def pictures(folder):
    return [row for row in census(folder).values() if row["file_name"]]


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


def problem(name):
    """What makes picture 0 of the folder a case of this problem."""

    def make(raw):
        picture, caption = raw / "sub" / "0.png", raw / "sub" / "0.txt"
        if name == "unreadable":
            picture.write_bytes(picture.read_bytes()[:-40])
        elif name == "no-caption":
            caption.unlink()
        elif name == "long-caption":
            caption.write_text("word " * 90)
        elif name == "duplicate":
            (raw / "sub" / "1.png").write_bytes(picture.read_bytes())
        elif name == "near-duplicate":
            noise(0).resize((90, 75)).save(raw / "sub" / "1.png")
        elif name == "enlarged":
            noise(0, (48, 40)).save(picture)
        elif name == "enlarged-pixels":
            noise(0, (32, 32)).resize((256, 256), Image.Resampling.NEAREST).save(picture)
        elif name == "blurred":
            noise(0).filter(ImageFilter.GaussianBlur(9)).save(picture)
        elif name == "jpeg":
            picture.unlink()
            noise(0).save(picture.with_suffix(".jpg"), quality=20)

    return make


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("no-trigger", "shared-words", "skipped")])
def test_every_problem_stops_until_it_is_allowed_or_dropped(raw, name, capsys):
    problem(name)(raw)
    with pytest.raises(InputError, match="was not written"):
        run(raw)
    assert f"PROBLEM  {name} " in capsys.readouterr().out
    assert not (raw.parent / "data").exists()
    target = run(raw, allow=[name])
    rows = census(target)
    assert [list(row["problems"]) for row in rows.values() if row["problems"]] == [[name]]
    left_out = name in ("unreadable", "no-caption")
    assert sum(row["used"] for row in rows.values()) == len(scan_folder(target)) == (5 if left_out else 6)
    assert len(scan_folder(run(raw, drop=[name]))) == 5
    assert len(scan_folder(run(raw, strict=False))) == (5 if left_out else 6)


def test_a_template_without_trigger_is_a_problem(raw, capsys):
    with pytest.raises(InputError):
        run(raw, template="{text}")
    assert "no-trigger            6" in capsys.readouterr().out


def test_words_that_most_captions_begin_with_are_a_problem(raw, capsys):
    with pytest.raises(InputError):
        run(raw, remove=[])
    assert "shared-words          6" in capsys.readouterr().out
    assert len(scan_folder(run(raw, remove=[], allow=["shared-words"]))) == 6


@pytest.mark.parametrize(
    ("texts", "shared"),
    [
        (
            ["a drawing of a cat", "A drawing of the moon", "a drawing of two dogs", "a drawing of cats", "x y"],
            "a drawing of",
        ),
        (["a cat", "a dog", "a house", "a tree", "a car"], ""),
        (["a drawing of a cat"] * 4, ""),
        (["1girl, solo, red", "1girl, solo, blue", "1girl, solo", "1girl, solo, b", "1girl, solo, c"], ""),
        (["cat 1", "cat 2", "cat 3", "cat 4", "cat 5"], ""),
        (["a drawing of a cat"] * 5, "a drawing of a cat"),
        (["the old cat", "the old dog", "the cat", "the dog", "the car"], ""),
        ([], ""),
    ],
)
def test_words_that_captions_share(texts, shared):
    assert shared_start(texts) == shared.split()


def test_a_picture_that_kills_its_reader_is_rejected_and_no_other(raw):
    """Each of these jobs runs in a process of its own; `dying` ends it as a crash in a codec does."""
    jobs = [(raw / "sub" / f"{i}.png", f"{i}", raw, RECIPE, None, raw) for i in range(6)]
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


def test_near_duplicates_stay_on_one_side_of_the_split(raw):
    for i in range(6):
        for j in range(4):
            noise(i).resize((90 + j, 76 + j)).save(raw / "sub" / f"{i}-{j}.png")
            (raw / "sub" / f"{i}-{j}.txt").write_text(f"{THINGS[i]} again")
    target = run(raw, allow=["near-duplicate"])
    for share in (0.3, 0.5, 0.7):
        sides = split_by_content(scan_folder(target), share)
        things = [{picture.name.split("-")[0] for picture in side} for side in sides]
        assert not things[0] & things[1]


def test_pixel_art_is_brought_back_to_its_pixels(raw):
    tiles = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in range(6)]
    for i, tile in enumerate(tiles):
        Image.fromarray(tile.repeat(32, 0).repeat(32, 1)).save(raw / "sub" / f"{i}.png")
    target = run(raw, kernel="nearest", resolution=512)
    for picture, tile in zip(scan_folder(target), tiles, strict=True):
        assert np.array_equal(np.asarray(Image.open(picture.path)), tile)
    assert all(row["grid"] == [16, 16] and "16x16" in row["notes"][0] for row in pictures(target))


def test_every_hostile_file_ends_in_its_verdict(tmp_path):
    raw = tmp_path / "raw"
    expected = make_hostile_folder(raw)
    target = run(raw, captions=["sidecar", "template"], caption_template="a {name}", strict=False, workers=2)
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


def test_the_same_again_changes_nothing_and_works_little(raw, monkeypatch):
    first = files(run(raw))
    monkeypatch.setattr("stylelora.data.normalise.read_picture", lambda *_: pytest.fail("read again"))
    assert files(run(raw)) == first
    monkeypatch.undo()
    noise(77).save(raw / "sub" / "0.png")
    (raw / "sub" / "5.png").unlink()
    (raw / "sub" / "5.txt").unlink()
    again = files(run(raw))
    same = {name[4] for name in again if name.endswith(".png") and again[name] == first[name]}
    assert (same, len(scan_folder(raw.parent / "data"))) == ({"1", "2", "3", "4"}, 5)


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.6, 0.9])
def test_killed_at_any_moment_the_same_command_gives_the_same(tmp_path, moment):
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(60):
        noise(i, (600, 500)).save(raw / f"thing {i}.png")
    options = {"style": "zebra", "trigger": "zqx", "resolution": 64, "captions": ["filename"], "strict": False}
    preprocess(str(raw), output=str(tmp_path / "whole"), workers=1, **options)
    call = {"source": str(raw), "output": str(tmp_path / "data"), "workers": 1, **options}
    code = f"from stylelora.experiments.preprocess import preprocess; preprocess(**{call!r})"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **quiet)
    partial = tmp_path / ".data.partial"
    while process.poll() is None and len(list(partial.glob("*.png")) if partial.exists() else []) < 60 * moment:
        time.sleep(0.005)
    time.sleep(random.Random(moment).random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    preprocess(**call)
    assert files(tmp_path / "data") == files(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "raw", "whole"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trigger": None}, "has no trigger word"),
        ({"allow": ["blur"]}, "no problem is called 'blur'"),
        ({"allow": "blurred,jpeg", "drop": ["jpeg"]}, "named twice"),
        ({"workers": 0}, "workers"),
        ({"base": "gone"}, "base 'gone' is not there"),
        ({"captions": "retrieval", "device": "tpu9"}, "device 'tpu9' cannot be used"),
        ({"captions": ["sidecars"]}, "caption source 'sidecars' is unknown"),
        ({"captions": []}, "at least one source"),
        ({"template": "{trigger} {name}"}, "may only hold"),
        ({"background": "no colour"}, "background"),
        ({"resolution": 0}, "resolution"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(raw, options, said):
    with pytest.raises(InputError, match=said):
        run(raw, **options)
    assert not (raw.parent / "data").exists()


@pytest.mark.parametrize("content", ["", '{"population": 5}', '{"files": []}', '{"settings": {'])
def test_an_output_that_is_not_ours_is_left_alone(raw, content):
    (raw.parent / "data").mkdir()
    (raw.parent / "data" / "letter.doc").write_text("mine")
    (raw.parent / "data" / "census.json").write_text(content)
    with pytest.raises(InputError, match="did not write"):
        run(raw)
    assert sorted(os.listdir(raw.parent / "data")) == ["census.json", "letter.doc"]
    with pytest.raises(InputError, match="lies in"):
        preprocess(str(raw), "zebra", str(Path(raw, "out")), trigger="zqx")
    (raw.parent / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        preprocess(str(raw), "zebra", str(raw.parent / "file"), trigger="zqx")


def test_what_was_changed_by_hand_is_kept(raw, capsys):
    target = run(raw)
    caption = next(target.glob("sub_0*.txt"))
    caption.write_text("zqx, corrected by hand")
    run(raw)
    assert "changed by hand" in capsys.readouterr().out
    assert (raw.parent / "data.1" / caption.name).read_text() == "zqx, corrected by hand"
    assert caption.read_text() != "zqx, corrected by hand"
    run(raw)
    assert not (raw.parent / "data.2").exists()


def test_training_goes_on_with_what_preprocess_was_given(raw):
    from datamodules import Pixelart, Watercolor

    target = str(run(raw, kernel="nearest", template="{text} in {trigger}"))
    data = Watercolor(root=target)
    assert (data.trigger, data.kernel, data.caption("a cat")) == ("zqx", "nearest", "a cat in zqx")
    data = Pixelart(root=target, trigger="abc", kernel="box", template="{trigger}: {text}")
    assert (data.kernel, data.caption("a cat")) == ("box", "abc: a cat")
    assert Watercolor(root=str(raw)).trigger == "wcstyle"


def test_pictures_are_described_in_their_turn_and_once(raw, monkeypatch):
    asked = []

    def captioner(images):
        asked.append(len(images))
        return ["it"] * len(images)

    monkeypatch.setattr("stylelora.experiments.preprocess.load_captioners", lambda options: {"blip": captioner})
    (raw / "sub" / "0.txt").unlink()
    (raw / "sub" / "1.txt").write_bytes(b"\xff\xfe\xfa")
    for _ in range(2):  # the second run asks nothing again
        with pytest.raises(InputError, match="--allow no-caption,"):
            run(raw, captions="sidecar,blip")
    assert asked == [1]
    rows = census(run(raw, captions="sidecar,blip", allow="no-caption"))
    assert (rows["sub/0.png"]["caption"], rows["sub/0.png"]["caption_source"]) == ("zqx, it", "blip")
    assert "not UTF-8" in rows["sub/1.png"]["problems"]["no-caption"], "a damaged caption is not replaced by another"


def test_a_link_stays_one(raw):
    (raw.parent / "big disk").mkdir()
    (raw.parent / "data").symlink_to(raw.parent / "big disk")
    for _ in range(2):
        assert len(scan_folder(run(raw))) == 6
    assert (raw.parent / "data").is_symlink()


def test_two_runs_do_not_mix(raw):
    with locked(raw.parent / ".data.partial"), pytest.raises(InputError, match="another run is writing"):
        run(raw)
    assert len(scan_folder(run(raw))) == 6


def test_what_is_skipped_is_a_problem_unless_nobody_misses_it(raw, capsys):
    for name in (".DS_Store", "LICENSE.txt", "readme.md"):
        (raw / name).write_bytes(b"x")
    run(raw)
    for name in ("IMG_1.HEIC", "sub/lonely.txt"):
        (raw / name).write_bytes(b"x")
    (raw / "lost.png").symlink_to(raw / "gone.png")
    with pytest.raises(InputError, match="--allow skipped"):
        run(raw)
    said = capsys.readouterr().out
    assert all(name in said for name in ("IMG_1.HEIC", "sub/lonely.txt", "lost.png"))
    assert len(scan_folder(run(raw, allow="skipped"))) == 6


def test_of_duplicates_the_one_with_a_caption_stays(raw):
    (raw / "sub" / "5.png").write_bytes((raw / "sub" / "0.png").read_bytes())
    (raw / "sub" / "0.txt").unlink()
    texts = [picture.text for picture in scan_folder(run(raw, drop="duplicate,no-caption"))]
    assert texts == [f"a {thing}" for thing in THINGS[1:]]


def die_at(step, at):
    """Let this process be killed at the n-th call of a method of Path."""
    calls, real = itertools.count(), getattr(Path, step)

    def dying(self, *args, **kwargs):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *args, **kwargs)

    setattr(Path, step, dying)


@pytest.mark.parametrize("death", [("write_text", 0), ("write_text", 5), ("unlink", 0), ("rename", 0), ("rename", 1)])
def test_killed_while_the_set_is_put_together(raw, death):
    """A child dies at the n-th call of a step; after the same command again all is as without."""
    want = files(run(raw))
    shutil.rmtree(raw.parent / "data")
    for earlier in (False, True):
        if (child := os.fork()) == 0:
            die_at(*death)
            run(raw)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        if earlier:
            kept = [folder for folder in ("data", ".data.old") if (raw.parent / folder).exists()]
            assert files(raw.parent / kept[0]) == want
        assert files(run(raw)) == want
        assert not [path for path in raw.parent.iterdir() if path.name.startswith(".")]
