"""Each option of the data, by the batches that training gets, against pictures prepared and encoded here."""

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps

from stylelora.data.prior import Prior
from tests.runs import draw_pictures


def batches_of(data, epochs=1):
    found, loader = [], data.train_dataloader()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += list(loader)
    return found


@pytest.fixture(scope="module")
def encode(tiny_sd):
    """The mean of diffusers' own autoencoder for a picture."""
    vae = AutoencoderKL.from_pretrained(tiny_sd, subfolder="vae").eval()

    @torch.no_grad()
    def encode(image):
        pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None] / 255 * 2 - 1
        return vae.encode(pixels).latent_dist.mean[0]

    return encode


def fitted(path, side=64):
    return ImageOps.fit(Image.open(path), (side, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("resolution", [64, 128])
def test_resolution(prepare, pictures, encode, resolution):
    data = prepare(pictures, resolution=resolution)
    paths = {picture.sha256: picture.path for picture in data.train}
    batch = next(iter(data.train_dataloader()))
    assert batch["mean"].shape == batch["std"].shape == (2, 4, resolution // 8, resolution // 8)
    for name, mean in zip(batch["sha256"], batch["mean"], strict=True):
        assert torch.allclose(mean, encode(fitted(paths[name], resolution)), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_batch_size(prepare, pictures, size):
    batches = batches_of(prepare(pictures, batch_size=size, held_out=0))
    assert (
        [len(batch["mean"]) for batch in batches] == [len(batch["text"]) for batch in batches] == [size] * (8 // size)
    )


def test_flip(prepare, pictures, encode):
    plain, flipped = (batches_of(prepare(pictures, repeats=3, flip=flip)) for flip in (False, True))
    paths = {picture.sha256: picture.path for picture in prepare(pictures).train}

    def mirrored(batches):
        """Whether each is the picture's mirror image."""
        found = []
        for batch in batches:
            for name, mean in zip(batch["sha256"], batch["mean"], strict=True):
                image = fitted(paths[name])
                ways = [torch.allclose(mean, encode(one), atol=1e-3) for one in (image, ImageOps.mirror(image))]
                assert ways.count(True) == 1
                found.append(ways[1])
        return found

    assert not any(mirrored(plain))
    assert 3 <= sum(mirrored(flipped)) <= 11  # of 14


def test_buckets(prepare, tmp_path):
    for i, size in enumerate([(400, 140)] * 4 + [(300, 300)] * 4):
        pixels = np.random.default_rng(i).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.bmp")
        (tmp_path / f"{i}.txt").write_text(f"a shape {i}")
    for buckets, expected in ((False, {(16, 16): 8}), (True, {(8, 24): 4, (16, 16): 4})):
        batches = batches_of(prepare(tmp_path, resolution=128, buckets=buckets, held_out=0))
        assert Counter(tuple(mean.shape[1:]) for batch in batches for mean in batch["mean"]) == expected


@pytest.fixture
def orders(prepare, tmp_path):
    """The orders in which the tags of eight pictures are shown."""
    root = draw_pictures(tmp_path / "style")
    for number in range(8):
        (root / f"{number}.txt").write_text("one, two, three, four")

    def orders(**options):
        data = prepare(root, held_out=0, **options)
        batches = batches_of(data, epochs=4)
        for batch in batches:
            assert torch.equal(batch["text"], torch.stack([data.encoded.text(one) for one in batch["caption"]]))
        shown = {caption for batch in batches for caption in batch["caption"]}
        assert all(sorted(caption.split(", ")) == ["four", "one", "three", "two", "zqx"] for caption in shown)
        return [caption.split(", ")[1:] for caption in shown]

    return orders


def test_tags_are_shuffled(orders):
    assert orders() == [["one", "two", "three", "four"]]
    shuffled = orders(keep_tags=0)
    assert len(shuffled) > 4
    assert {tags[0] for tags in shuffled} >= {"one", "two"}


def test_leading_tags_are_kept(orders):
    kept = orders(keep_tags=2)
    assert {tuple(tags) for tags in kept} == {("one", "two", "three", "four"), ("one", "two", "four", "three")}


def test_pictures_without_the_style(prepare, pictures, encode, tmp_path):
    """As many as of the style's, with captions of their own, and their weight."""
    root = draw_pictures(tmp_path / "others", 3)
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 40, 200)).save(root / f"{number}.bmp")
    others = {f"a thing with number {number}": Image.open(root / f"{number}.bmp") for number in range(3)}
    (batch, *_) = batches_of(prepare(pictures, prior=Prior(str(root), weight=0.25)))
    assert len(batch["mean"]) == len(batch["text"]) == 4
    assert torch.allclose(batch["weight"], torch.tensor([2.0, 2.0, 0.5, 0.5]))
    assert all(caption.startswith("zqx") for caption in batch["caption"][:2])
    for row, caption in enumerate(batch["caption"][2:], start=2):
        assert torch.allclose(batch["mean"][row], encode(others[caption]), atol=1e-4)
