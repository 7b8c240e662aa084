"""Latents and text embeddings on disk."""

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stylelora.data import cache as cache_module
from stylelora.data.cache import encode_pictures, encode_texts
from stylelora.data.scan import scan_folder
from tests.runs import draw_pictures


@pytest.fixture
def folder(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "style")


@pytest.fixture
def computed(monkeypatch):
    """How often the autoencoder and the text encoder were loaded."""
    counts = {"vae": 0, "text_encoder": 0}

    def counting(part, load):
        def counted(folder):
            counts[part] += 1
            return load(folder)

        return counted

    monkeypatch.setattr(cache_module, "load_vae", counting("vae", cache_module.load_vae))
    load = counting("text_encoder", cache_module.load_text_encoder)
    monkeypatch.setattr(cache_module, "load_text_encoder", load)
    return counts


def test_latents_are_the_autoencoders_own(tiny_sd, folder, tmp_path):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(tiny_sd / "vae")
    found = draw_pictures(folder, 10)
    got = encode_pictures(scan_folder(found), tiny_sd, 64, "bicubic", tmp_path / "cache", "cpu")
    assert got["mean"].shape == got["std"].shape == (10, 4, 8, 8)
    for i in (0, 9):
        image = ImageOps.fit(Image.open(folder / f"{i}.bmp"), (64, 64), Image.Resampling.BICUBIC)
        pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None] / 255 * 2 - 1
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
        torch.testing.assert_close(got["mean"][i], posterior.mean[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(got["std"][i], posterior.std[0], atol=1e-5, rtol=1e-5)


def test_texts_are_the_text_encoders_own(tiny_sd, tmp_path):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    texts = [f"a fox number {i}" for i in range(33)] + [""]
    got = encode_texts(texts, tiny_sd, tmp_path, "cpu")
    want, empty = pipeline.encode_prompt(texts[:-1], "cpu", 1, do_classifier_free_guidance=True)
    assert got.shape == (34, 77, 32)
    torch.testing.assert_close(got[:-1], want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[-1], empty[0], atol=1e-5, rtol=1e-5)


def test_the_second_time_nothing_is_computed(tiny_sd, folder, tmp_path, computed):
    def both():
        latents = encode_pictures(scan_folder(folder), tiny_sd, 64, "box", tmp_path / "cache", "cpu")
        return latents | {"text": encode_texts(["a", "b"], tiny_sd, tmp_path / "cache", "cpu")}

    first, second = both(), both()
    assert computed == {"vae": 1, "text_encoder": 1}
    assert first.keys() == second.keys() == {"mean", "std", "text"}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(path.suffix == ".safetensors" for path in (tmp_path / "cache").iterdir())


def test_whatever_decides_the_content_computes_again(tiny_sd, folder, tmp_path, computed):
    def latents(base=tiny_sd, resolution=64, kernel="box"):
        return encode_pictures(scan_folder(folder), base, resolution, kernel, tmp_path / "cache", "cpu")

    def texts(*words, base=tiny_sd):
        return encode_texts(words, base, tmp_path / "cache", "cpu")

    latents()
    latents(resolution=128)
    latents(kernel="nearest")
    assert computed["vae"] == 3
    shutil.copy(folder / "1.bmp", folder / "0.bmp")
    latents()
    assert computed["vae"] == 4

    texts("a", "b")
    texts("a", "c")
    texts("b", "a")
    assert computed["text_encoder"] == 3

    other = shutil.copytree(tiny_sd, tmp_path / "other")
    from safetensors.torch import load_file, save_file

    for part, name in (("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = other / part / f"{name}.safetensors"
        save_file({key: value * 1.01 for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    changed = latents(base=other)
    assert computed["vae"] == 5
    assert not torch.equal(changed["mean"], latents()["mean"])
    texts("a", "b", base=other)
    assert computed == {"vae": 5, "text_encoder": 4}


def test_a_renamed_picture_or_another_caption_leaves_the_latents(tiny_sd, folder, tmp_path, computed):
    def latents():
        return encode_pictures(scan_folder(folder), tiny_sd, 64, "box", tmp_path / "cache", "cpu")

    latents()
    (folder / "0.txt").write_text("something else")
    (folder / "7.bmp").rename(folder / "8.bmp")
    (folder / "7.txt").rename(folder / "8.txt")
    latents()
    assert computed["vae"] == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_built_again_and_said_so(tiny_sd, tmp_path, computed, caplog, damage):
    first = encode_texts(["a"], tiny_sd, tmp_path, "cpu")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(encode_texts(["a"], tiny_sd, tmp_path, "cpu"), first)
    assert computed["text_encoder"] == 2
    assert f"{path} is damaged" in caplog.text
    encode_texts(["a"], tiny_sd, tmp_path, "cpu")
    assert computed["text_encoder"] == 2


def test_a_caption_too_long_is_named(tiny_sd, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        encode_texts(["a fox", " ".join(["a"] * 75)], tiny_sd, tmp_path, "cpu")
        assert "only the first" not in caplog.text
        got = encode_texts(["fox " * 200], tiny_sd, tmp_path, "cpu")
    assert "only the first 77 count: 'fox fox" in caplog.text
    assert got.shape == (1, 77, 32)
