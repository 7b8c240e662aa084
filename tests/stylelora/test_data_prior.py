"""Pictures that keep what the base knows: which, with what captions, and how they stand in a batch."""

import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylelora.data.cache import View
from stylelora.data.prior import Prior, PriorPictures
from stylelora.records import InputError


@pytest.fixture
def folder(tmp_path):
    """Five pictures, two of them with a caption."""
    folder = tmp_path / "regular"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (70 + i, 60), (50 * i, 90, 200)).save(folder / f"{i}.png")
    for i in (0, 3):
        (folder / f"{i}.txt").write_text(f"a tabby cat {i}")
    return folder


def scanned(folder, **options):
    prior = PriorPictures(Prior(str(folder), **options))
    prior.scan("zqx")
    return prior


def test_captions_of_their_own_come_before_the_prompt(folder, caplog):
    prior = scanned(folder, prompt="a cat", weight=0.5)
    assert [one.text for one in prior.pictures] == ["a tabby cat 0", "a cat", "a cat", "a tabby cat 3", "a cat"]
    assert [one.size for one in prior.pictures] == [(70 + i, 60) for i in range(5)]
    assert "5 pictures in" in caplog.text and "with weight 0.5" in caplog.text


def test_kohyas_folders_give_captions_and_repeats(folder, tmp_path):
    kohya = tmp_path / "reg"
    kohya.mkdir()
    folder.rename(kohya / "2_black_cat")
    texts = [one.text for one in scanned(kohya).pictures]
    assert Counter(texts) == {"a tabby cat 0": 2, "black cat": 6, "a tabby cat 3": 2}
    assert Counter(one.text for one in scanned(kohya, prompt="a cat").pictures)["a cat"] == 6


def test_what_cannot_be_used_is_named(folder):
    with pytest.raises(
        InputError, match=r"3 pictures in .* have no caption \(1.png, 2.png, 4.png\); say what they show"
    ):
        scanned(folder)
    (folder / "3.txt").write_text("ZQX, a cat")
    with pytest.raises(InputError, match=r"a caption in .*regular has the trigger 'zqx', which stands for the style"):
        scanned(folder, prompt="a cat")
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot be read \(3.png\)"):
        scanned(folder, prompt="a cat")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": float("nan")}, "prior.weight is nan"),
        ({"weight": float("inf")}, "prior.weight is inf"),
        ({"weight": -1.0}, "prior.weight is -1.0"),
        ({"count": 0}, "prior.count is 0"),
        ({"root": None, "prompt": "a cat"}, "prior.prompt has no effect without data.prior.root"),
        ({"root": None, "weight": 0.5}, "prior.weight has no effect without"),
        ({"root": None, "count": 7}, "prior.count has no effect without"),
        ({"root": "style"}, "the style's own pictures are in style"),
        ({"root": "style/reg"}, "neither inside the other"),
        ({"root": "."}, "neither inside the other"),
        ({"prompt": "a zqx cat"}, "prior.prompt has the trigger 'zqx'"),
        ({"prompt": " "}, "prior.prompt is empty"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        Prior(**{"root": "reg"} | options).check(Path("style"), "zqx")


def test_what_is_off_and_what_is_on(tmp_path):
    for options, used in ((Prior(), False), (Prior("reg"), True), (Prior("reg", weight=0), False)):
        options.check(tmp_path / "style", "zqx")
        assert options.used is used


def test_an_epoch_shows_all_equally_often_and_each_sample_is_keyed(folder):
    prior = scanned(folder, prompt="a cat")
    rows = list(range(15))
    epochs = [[picture.name for picture, _ in prior.chosen(rows, seed=1, epoch=epoch)] for epoch in (0, 1)]
    assert all(set(Counter(names).values()) == {3} for names in epochs)
    assert epochs[0] != epochs[1] and epochs[0][:5] != epochs[0][5:10]
    assert [picture.name for picture, _ in prior.chosen([7], seed=1, epoch=1)] == [epochs[1][7]]
    assert [picture.name for picture, _ in prior.chosen(rows, seed=2, epoch=0)] != epochs[0]


def test_a_batch_gets_as_many_of_them_with_their_weight(folder, cache, caplog):
    caplog.set_level(logging.ERROR)
    prior = scanned(folder, prompt="a cat", weight=0.25)
    size, text = (64, 128), cache.text("zqx, a fox")
    batch = {
        "mean": torch.zeros(2, 4, 16, 8), "std": torch.ones(2, 4, 16, 8), "text": torch.stack([text, text]),
        "empty_text": cache.texts([""]), "mask": torch.zeros(2, 1, 16, 8), "row": [4, 9], "sha256": ["a", "b"],
    }  # fmt: skip
    prior.encode(cache, [size])
    got = prior.joined(dict(batch), cache, size, seed=3, epoch=2)
    chosen = list(prior.chosen([4, 9], 3, 2))
    assert got["row"] == [4, 9, "prior 4", "prior 9"]
    assert got["sha256"] == ["a", "b", *(picture.sha256 for picture, _ in chosen)]
    assert torch.equal(got["weight"], torch.tensor([2.0, 2.0, 0.5, 0.5]))  # whose mean is 1 + 0.25 of a mean each
    for i, (picture, caption) in enumerate(chosen, start=2):
        latent = cache.latent(picture, View(size, "lanczos"))
        assert torch.equal(got["mean"][i], latent["mean"]) and torch.equal(got["std"][i], latent["std"])
        assert torch.equal(got["text"][i], cache.text(caption))
    assert torch.equal(got["mean"][:2], batch["mean"]) and len(got["empty_text"]) == 1
    assert torch.equal(got["mask"], torch.cat([batch["mask"], torch.ones(2, 1, 16, 8)]))
    assert PriorPictures(Prior()).joined(batch, cache, size, 3, 2) is batch
