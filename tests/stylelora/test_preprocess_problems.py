"""What would hurt a training is found, each kind by a folder that has it."""

import pytest
from PIL import Image, ImageFilter

from stylelora.data.scan import scan_folder, split_by_content
from stylelora.preprocess.problems import ADVICE, shared_start
from stylelora.records import InputError
from tests.raw import THINGS, census, noise, run

ALL = list(ADVICE)


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
        elif name == "too-large":
            Image.new("1", (70000, 1)).save(picture)
        elif name == "cropped":
            noise(0, (300, 80)).save(picture)
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
    left_out = name in ("unreadable", "too-large", "no-caption")
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
    said = capsys.readouterr().out
    assert "shared-words          6" in said
    assert 'take them out of the captions with --remove "a drawing of"' in said
    assert "--remove &#34;a drawing of&#34;" in next(raw.parent.glob("*.census.html")).read_text()
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
