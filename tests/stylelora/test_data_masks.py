"""Masks follow their pictures, and what does not fit is named."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from PIL import Image

from stylelora.data.cache import View
from stylelora.data.dataset import StyleDataset
from stylelora.data.framing import Framing
from stylelora.data.masks import Masks
from stylelora.data.scan import scan_folder
from stylelora.data.wording import Wording
from stylelora.records import InputError

SIZES = {"0.png": (90, 60), "1.png": (64, 64), "2.png": (70, 150), "3.png": (40, 50)}


def blob(size, seed):
    """A white disc on black, off the middle, as an array (H, W)."""
    width, height = size
    x, y = np.random.default_rng(seed).uniform(0.3, 0.7, 2) * size
    ys, xs = np.mgrid[:height, :width]
    return np.where((xs - x) ** 2 + (ys - y) ** 2 < (min(size) / 3) ** 2, 255, 0).astype(np.uint8)


@pytest.fixture
def marked(tmp_path):
    """Pictures that are their own masks, by luminance and by alpha channel; and a folder of their masks."""
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    masks.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        grey = Image.fromarray(blob(size, seed))
        Image.merge("RGBA", [grey, grey, grey, grey]).save(pictures / name)
        (pictures / name).with_suffix(".txt").write_text("a disc")
        grey.save(masks / f"{name[0]}.bmp")
    return pictures, masks


@pytest.mark.parametrize("source", ["alpha", "folder"])
@pytest.mark.parametrize(
    "view",
    [
        View((64, 64), "lanczos"),
        View((64, 64), "bicubic", flip=True),
        View((128, 64), "lanczos"),
        View((64, 128), "box", flip=True),
        View((64, 64), "bicubic", source_size=16),
        View((64, 64), "nearest"),
        View((128, 128), "nearest", flip=True),
    ],
)
def test_a_mask_is_cropped_and_mirrored_as_its_picture_and_averaged(marked, cache, source, view):
    pictures, folder = marked
    masks = Masks("alpha" if source == "alpha" else str(folder))
    scanned = scan_folder(pictures)
    masks.scan(pictures, scanned)
    for seed, picture in enumerate(scanned):
        got = masks.mask(cache, picture, view)
        seen = np.asarray(view.of(Image.fromarray(blob(picture.size, seed)).convert("RGB")))[..., 0].astype(float) / 255
        width, height = view.size
        want = seen.reshape(height // 8, 8, width // 8, 8).mean((1, 3))  # the picture itself, by hand
        assert got.shape == (1, height // 8, width // 8) and got.dtype == torch.float32
        smooth = 0.05 if view.interpolation in ("lanczos", "bicubic") else 1e-6  # its filter; the mask has averages
        assert np.abs(got[0].numpy() - want).max() < smooth * (4 if view.source_size else 2)
        assert torch.equal(masks.mask(cache, picture, view), got)  # from the cache


def test_what_is_black_in_the_mask_counts_nothing_at_all(cache, tmp_path):
    """Lanczos would ring beyond the edge."""
    (tmp_path / "p").mkdir()
    half = np.zeros((50, 50), np.uint8)
    half[:, :25] = 255
    Image.fromarray(half).save(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "a.txt").write_text("a half")
    masks = Masks(str(tmp_path / "p"))
    masks.scan(tmp_path / "p", scanned := scan_folder(tmp_path / "p"))
    want = (torch.arange(8) < 4).float().expand(1, 8, 8)
    assert torch.equal(masks.mask(cache, scanned[0], View((64, 64), "lanczos")), want)


def test_masks_are_read_once(marked, cache, monkeypatch):
    pictures, folder = marked
    masks = Masks(str(folder))
    masks.scan(pictures, scanned := scan_folder(pictures))
    views = [(picture, View((64, 64), "lanczos")) for picture in scanned]
    masks.prepare(cache, views)
    monkeypatch.setattr("stylelora.data.masks.read_picture", lambda *_, **__: pytest.fail("read again"))
    masks.prepare(cache, views)


def dataset_of(pictures, masks):
    return StyleDataset(pictures, 0.5, Framing(64), Wording("zqx", "{trigger}, {text}"), masks=Masks(str(masks)))


def test_batches_hold_masks_of_their_pictures(marked, cache, caplog):
    pictures, folder = marked
    dataset = dataset_of(pictures, folder)
    dataset.train = dataset.held_out = scan_folder(pictures)
    dataset.samples = [0, 1, 2, 3] * 2
    dataset.masks.scan(pictures, dataset.train)
    dataset.choose_sizes(64)
    dataset.encode(cache)
    assert "pictures' area count, for training and for held-out loss and skill; 0 of 4" in caplog.text
    for side in ("train", "held_out"):
        batch = dataset.batch(cache, side, [2, 5 if side == "train" else 1], [False, False], ["a", "b"])
        rows = [dataset.masks.mask(cache, dataset.train[i], dataset.view(side, i)) for i in (2, 1)]
        assert torch.equal(batch["mask"], torch.stack(rows))
        assert batch["mask"].shape == (2, 1, *batch["mean"].shape[2:])


def test_masks_in_folders_of_the_same_name_come_first(marked, cache):
    pictures, folder = marked
    picture = scan_folder(pictures)[0]
    (folder / "10_disc").mkdir()
    Image.new("L", picture.size, 255).save(folder / "10_disc" / "0.png")
    inside = dataclasses.replace(picture, folder=pictures / "10_disc")
    masks = Masks(str(folder))
    masks.scan(pictures, [picture, inside])
    means = [float(masks.mask(cache, one, View((64, 64), "box")).mean()) for one in (picture, inside)]
    assert means[0] < 1 == means[1]
    with pytest.raises(InputError, match=r"would be those of several pictures \(0.bmp\); put them into sub-folders"):
        masks.scan(pictures, [picture, dataclasses.replace(picture, folder=pictures / "5_other")])


def test_transparent_areas_of_a_mask_are_no_part_of_it(marked, cache):
    pictures, folder = marked
    for name in SIZES:
        grey = Image.open(folder / f"{name[0]}.bmp")
        white = Image.new("L", grey.size, 255)
        (folder / f"{name[0]}.bmp").unlink()
        Image.merge("LA", [white, grey]).save(folder / name)
    by_folder, by_alpha = Masks(str(folder)), Masks("alpha")
    for picture in (scanned := scan_folder(pictures)):
        for masks in (by_folder, by_alpha):
            masks.scan(pictures, scanned)
        first, second = (one.mask(cache, picture, View((64, 64), "lanczos")) for one in (by_folder, by_alpha))
        assert torch.equal(first, second)


def change(folder, how):
    if how == "missing":
        (folder / "1.bmp").unlink()
        (folder / "3.bmp").unlink()
    elif how == "twice":
        Image.new("L", (90, 60)).save(folder / "0.webp")
    elif how == "size":
        Image.new("L", (60, 90), 255).save(folder / "0.bmp")
    elif how == "no picture":
        (folder / "2.bmp").write_bytes(b"BM nothing")
    elif how == "pipe":
        (folder / "2.bmp").unlink()
        os.mkfifo(folder / "2.bmp")
    elif how == "black":
        Image.new("L", (64, 64)).save(folder / "1.bmp")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"has no mask for 2 of 4 pictures \(1.png, 3.png\); .* white one lets the whole picture count"),
        ("twice", r"two masks for one picture \(0.bmp and 0.webp\); remove one"),
        ("size", "0.bmp has 60x90 px, but its picture 0.png 90x60; make them equal"),
        ("no picture", "2.bmp cannot be read as a mask"),
        ("pipe", "2.bmp cannot be read as a mask"),
        ("black", r"1 of 4 masks are black wherever their picture is shown \(1.png\)"),
    ],
)
def test_masks_that_do_not_fit_are_named(marked, cache, how, said):
    pictures, folder = marked
    change(folder, how)
    masks = Masks(str(folder))
    with pytest.raises(InputError, match=said):
        masks.scan(pictures, scanned := scan_folder(pictures))
        masks.prepare(cache, [(picture, View((64, 64), "lanczos")) for picture in scanned])


def test_alpha_needs_a_picture_with_transparent_areas(pictures, marked, cache, caplog):
    masks = Masks("alpha")
    masks.scan(pictures, scanned := scan_folder(pictures))
    with pytest.raises(InputError, match=r"no picture has transparent areas, .* preprocess lays them on white"):
        masks.prepare(cache, [(picture, View((64, 64), "lanczos")) for picture in scanned])
    masks.scan(pictures, both := [scanned[0], *scan_folder(marked[0])])
    masks.prepare(cache, [(picture, View((64, 64), "lanczos")) for picture in both])
    assert "1 of 5 pictures count as a whole" in caplog.text


def test_there_must_be_such_a_folder(tmp_path):
    with pytest.raises(
        InputError, match=r"data.masks is .*none, but there is no such folder; give one of masks, or alpha"
    ):
        Masks(str(tmp_path / "none")).scan(tmp_path, [])
