"""Latents and text embeddings on disk."""

import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from stylelora.data import cache as cache_module
from stylelora.data.cache import Cache, View, read, write
from stylelora.data.scan import scan_folder
from stylelora.records import InputError
from tests.runs import entries

VIEW = View((64, 64), "box")


@pytest.fixture
def folder(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "style")


@pytest.fixture
def loaded(monkeypatch):
    """How often the autoencoder and the text encoder were loaded."""
    counts = {"vae": 0, "text_encoder": 0}

    def counting(part, load):
        def counted(folder):
            counts[part] += 1
            return load(folder)

        return counted

    for part in counts:
        monkeypatch.setattr(cache_module, f"load_{part}", counting(part, getattr(cache_module, f"load_{part}")))
    return counts


@pytest.mark.parametrize("size", [(64, 64), (128, 64)])
def test_latents_are_the_autoencoders_own(tiny_sd, cache, folder, size):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(tiny_sd / "vae")
    for picture in scan_folder(folder)[:2]:
        got = cache.latent(picture, View(size, "bicubic"))
        image = ImageOps.fit(Image.open(picture.path), size, Image.Resampling.BICUBIC)
        pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None] / 255 * 2 - 1
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
        assert got["mean"].shape == (4, size[1] // 8, size[0] // 8)
        torch.testing.assert_close(got["mean"], posterior.mean[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got["std"], posterior.std[0], atol=1e-5, rtol=1e-5)


def test_texts_are_the_text_encoders_own(tiny_sd, cache):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    texts = ["a fox", "a fox in a very small house", ""]
    cache.add_texts(texts)
    want, empty = pipeline.encode_prompt(texts[:-1], "cpu", 1, do_classifier_free_guidance=True)
    for text, tensor in zip(texts, [*want, empty[0]], strict=True):
        assert cache.text(text).shape == (77, 32)
        torch.testing.assert_close(cache.text(text), tensor, atol=1e-5, rtol=1e-5)


def test_the_second_time_nothing_is_computed(tiny_sd, cache, folder, loaded):
    wanted = [(picture, VIEW) for picture in scan_folder(folder)]
    for again in (cache, Cache(cache.folder, tiny_sd, "cpu")):
        again.add_latents(wanted)
        again.add_texts(["a", "b", "a", ""])
        latents = [again.latent(*each) for each in wanted]
        assert again.text("a").shape == (77, 32)
        assert loaded == {"vae": 1, "text_encoder": 1}
    assert all(latent.keys() == {"mean", "std"} for latent in latents)
    found = entries(cache)
    assert len(found) == 8 + 3  # a repeated caption is stored once
    assert {path.parts[0] for path in found} == {"latents", "texts"}
    assert all(path.parts[1] == path.name[:2] for path in found)


def test_entries_that_fit_into_memory_are_read_once_and_are_the_same(tiny_sd, cache, folder, monkeypatch):
    wanted, reads = [(picture, VIEW) for picture in scan_folder(folder)], []
    cache.add_latents(wanted)
    cache.add_texts(["a"])
    size = sum(tensor.nbytes for tensor in cache.latent(*wanted[0]).values())
    monkeypatch.setattr(cache_module, "read", lambda path: reads.append(path) or read(path))
    small = Cache(cache.folder, tiny_sd, "cpu", in_memory=3 * size + size // 2)
    for _ in range(4):
        for each in wanted:
            found, kept = small.latent(*each), cache.latent(*each)
            assert all(torch.equal(found[name], kept[name]) for name in ("mean", "std"))
    assert len(reads) == 4 * len(wanted) + 3 + 4 * (len(wanted) - 3), "three fit"
    reads.clear()
    whole = Cache(cache.folder, tiny_sd, "cpu", in_memory=2**20)
    assert all(torch.equal(whole.text("a"), cache.text("a")) for _ in range(3))
    assert len(reads) == 3 + 1
    before = whole.text("a").clone()
    cache.text_path("a").write_bytes(b"another's")
    assert torch.equal(whole.text("a"), before), "a copy, not a view of the file"


def test_an_entry_does_not_depend_on_what_else_is_asked_for(tiny_sd, cache, folder, tmp_path):
    """Filled in one go, backwards, or one by one as training asks: the same bytes."""
    wanted = [(picture, VIEW) for picture in scan_folder(folder)]
    others = [Cache(tmp_path / name, tiny_sd, "cpu") for name in ("backwards", "single")]
    cache.add_latents(wanted)
    cache.add_texts(["a fox", "a hat"])
    others[0].add_latents(wanted[::-1])
    others[0].add_texts(["a hat", "a fox"])
    for each in wanted:
        others[1].latent(*each)
    others[1].text("a fox"), others[1].text("a hat")
    assert entries(others[0]) == entries(others[1]) == entries(cache)


@pytest.mark.parametrize(
    "view",
    [
        View((128, 64), "box"),
        View((64, 128), "box"),
        View((64, 64), "nearest"),
        View((64, 64), "box", source_size=16),
        View((64, 64), "box", source_size=32),
        View((64, 64), "box", flip=True),
    ],
)
def test_each_part_of_a_view_makes_another_entry(cache, folder, view):
    picture = scan_folder(folder)[0]
    assert cache.latent_path(picture, view) != cache.latent_path(picture, VIEW)
    mean, other = cache.latent(picture, VIEW)["mean"], cache.latent(picture, view)["mean"]
    assert mean.shape != other.shape or not torch.equal(mean, other)


def test_a_view_is_what_it_says(folder):
    image = Image.open(scan_folder(folder)[0].path)
    view = View((64, 64), "nearest", source_size=8, flip=True)
    blocks = np.array(view.of(image))
    small = blocks[::8, ::8]
    assert np.array_equal(blocks, small.repeat(8, 0).repeat(8, 1))
    assert np.array_equal(np.array(replace(view, flip=False).of(image)), blocks[:, ::-1])
    assert abs(small.mean() - np.array(image)[:, 5:55].mean()) < 1


def test_other_bytes_captions_and_weights_make_other_entries(tiny_sd, cache, folder, tmp_path):
    picture = scan_folder(folder)[0]
    paths = [cache.latent_path(picture, VIEW), cache.text_path("a"), cache.text_path("b")]
    picture.path.write_bytes((folder / "1.bmp").read_bytes())
    paths.append(cache.latent_path(scan_folder(folder)[0], VIEW))

    other = Cache(cache.folder, shutil.copytree(tiny_sd, tmp_path / "other"), "cpu")
    for part, name in (("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = other.base / part / f"{name}.safetensors"
        save_file({key: value * 1.01 for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    picture = scan_folder(folder)[1]
    paths += [cache.latent_path(picture, VIEW), other.latent_path(picture, VIEW), other.text_path("a")]
    assert paths[3] == paths[4]  # equal bytes have one entry, whatever the file is called
    assert len(set(paths)) == len(paths) - 1
    assert not torch.equal(cache.latent(picture, VIEW)["mean"], other.latent(picture, VIEW)["mean"])
    assert not torch.equal(cache.text("a"), other.text("a"))

    tokens = Cache(cache.folder, shutil.copytree(tiny_sd, tmp_path / "tokens"), "cpu")
    (tokens.base / "tokenizer" / "more.json").write_text("{}")
    assert tokens.text_path("a") != cache.text_path("a")


def test_a_renamed_picture_or_another_caption_leaves_the_latents(cache, folder):
    cache.add_latents([(picture, VIEW) for picture in scan_folder(folder)])
    (folder / "0.txt").write_text("something else")
    for suffix in (".bmp", ".txt"):
        (folder / f"7{suffix}").rename(folder / f"8{suffix}")
    assert cache.missing((picture, VIEW) for picture in scan_folder(folder)) == []


def test_a_picture_that_changes_after_the_scan_is_not_kept_under_its_old_name(cache, folder):
    picture = scan_folder(folder)[0]
    picture.path.write_bytes((folder / "1.bmp").read_bytes())
    with pytest.raises(InputError, match=r"0\.bmp has changed since this run began; start it again"):
        cache.add_latents([(picture, VIEW)])
    assert entries(cache) == {}


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-100],
    "header only": lambda data: data[:16],
    "longer": lambda data: data + b"\0",
    "no such format": lambda data: b"nonsense" * 100,
    "a bit of a number flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again_and_said_so(cache, folder, loaded, caplog, damage):
    picture = scan_folder(folder)[0]
    cache.latent(picture, VIEW), cache.text("a")
    good = entries(cache)
    for path, data in good.items():
        (cache.folder / path).write_bytes(DAMAGES[damage](data))
    with caplog.at_level(logging.WARNING):
        cache.latent(picture, VIEW), cache.text("a")
    assert entries(cache) == good
    assert loaded == {"vae": 2, "text_encoder": 2}
    assert all(f"{cache.folder / path} is damaged and is computed again" in caplog.text for path in good)
    cache.latent(picture, VIEW), cache.text("a")
    assert loaded == {"vae": 2, "text_encoder": 2}


def test_a_foreign_entry_is_built_again(cache, folder, caplog):
    """A sound file, but of another picture, or written by another program."""
    first, second, third = scan_folder(folder)[:3]
    good = [cache.latent(picture, VIEW)["mean"].clone() for picture in (first, second, third)]
    shutil.copy(cache.latent_path(second, VIEW), cache.latent_path(first, VIEW))
    save_file({"mean": torch.zeros(4, 8, 8, dtype=torch.bfloat16)}, cache.latent_path(third, VIEW))
    with caplog.at_level(logging.WARNING):
        for picture, mean in zip((first, second, third), good, strict=True):
            assert torch.equal(cache.latent(picture, VIEW)["mean"], mean)
    assert caplog.text.count("is damaged") == 2


def test_an_entry_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path, writing = tmp_path / "ab" / "entry.safetensors", []

    def stop(partial, _):
        writing.append(partial)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write(path, {"mean": torch.ones(1, 2, 2)})
    assert [*tmp_path.iterdir()] == []
    assert {one.suffix for one in writing} == {".partial"} and len({*writing}) == 2  # each writer has a file of its own


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "entry.safetensors"
    write(path, {"mean": torch.arange(4.0).view(1, 2, 2), "std": torch.ones(1, 2, 2)})
    good = path.read_bytes()
    assert read(path) is not None
    for place in range(8 * len(good)):
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        path.unlink()  # to write over a file takes 20 times as long
        path.write_bytes(data)
        assert read(path) is None, place


def test_a_caption_too_long_is_named(cache, caplog):
    with caplog.at_level(logging.WARNING):
        cache.add_texts(["a fox", " ".join(["a"] * 75)])
        assert "no effect" not in caplog.text
        cache.add_texts(["fox " * 200] * 2)
    assert caplog.text.count("more than 77 tokens, and what comes after has no effect: 125 tokens of the first") == 1
    assert cache.text("fox " * 200).shape == (77, 32)
