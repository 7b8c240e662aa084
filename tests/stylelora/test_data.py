import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stylelora.data import cache as cache_module
from stylelora.data.cache import encode_pictures, encode_texts
from stylelora.data.images import fit_square, labelled_grid, open_picture, to_pil, to_tensor
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.records import InputError, Picture
from tests.runs import draw_pictures


@pytest.fixture
def folder(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "style")


def write_metadata(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# scan


def test_captions_stand_beside_the_pictures(folder):
    (folder / "notes.md").write_text("no picture")
    (folder / "0.txt").write_text("  ein Fuchs, 狐 \n", encoding="utf-8")
    found = scan_folder(folder)
    assert [picture.path.name for picture in found] == [f"{i}.bmp" for i in range(8)]
    assert found[0].text == "ein Fuchs, 狐"
    assert found[3].text == "a thing with number 3"
    assert len({picture.sha256 for picture in found}) == 8


def test_a_listing_goes_before_text_files(folder):
    write_metadata(folder, [{"file_name": f"{i}.bmp", "text": f"listed {i}", "source": "x"} for i in range(8)])
    assert [picture.text for picture in scan_folder(folder)] == [f"listed {i}" for i in range(8)]


def test_a_byte_order_mark_is_no_part_of_a_caption(folder):
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfa fox")
    assert scan_folder(folder)[0].text == "a fox"


def test_everything_wrong_is_named_at_once(folder):
    for name in ("1", "2"):
        (folder / f"{name}.txt").unlink()
    (folder / "3.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"3 of 8 pictures .*\(1.bmp, 2.bmp, 3.bmp\)"):
        scan_folder(folder)
    for i in range(8):
        (folder / f"{i}.txt").write_text("x")
    for i in range(6):
        (folder / f"{i}.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match=r"6 pictures .*\(0.bmp, 1.bmp, 2.bmp, 3.bmp, 4.bmp, \.\.\.\)"):
        scan_folder(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "gone.png", "text": "x"}', r"names 1 pictures that are not there \(gone.png\)"),
        ('{"file_name": "0.bmp"', "line 9 is not"),
        ('{"file_name": "0.bmp"}', "line 9 is not"),
        ('["0.bmp", "x"]', "line 9 is not"),
        ('{"file_name": "0.bmp", "text": 5}', "line 9 is not"),
        ('{"file_name": "0.bmp", "text": null}', "line 9 is not"),
    ],
)
def test_a_bad_line_is_refused(folder, line, message):
    write_metadata(folder, [{"file_name": f"{i}.bmp", "text": "x"} for i in range(8)])
    with (folder / "metadata.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=message):
        scan_folder(folder)


def test_text_of_another_encoding_is_refused(folder):
    (folder / "0.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        scan_folder(folder)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        scan_folder(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        scan_folder(tmp_path / "gone")


# split


def by_hash(fill):
    return Picture(path=None, text="", sha256=fill)


def test_a_picture_stays_on_its_side(tmp_path):
    first = draw_pictures(tmp_path / "first", 30)
    train, held_out = split_by_content(scan_folder(first), 0.3)
    assert len(train) + len(held_out) == 30
    sides = {picture.sha256: "train" for picture in train} | {picture.sha256: "held out" for picture in held_out}

    second = draw_pictures(tmp_path / "second", 60)
    for i in range(10):
        (second / f"{i}.bmp").rename(second / f"z{i}.bmp")
        (second / f"{i}.txt").rename(second / f"z{i}.txt")
        shutil.copy(second / f"z{i}.bmp", second / f"twin{i}.bmp")
        (second / f"twin{i}.txt").write_text("another caption")
    train, held_out = split_by_content(scan_folder(second), 0.3)
    assert len(train) + len(held_out) == 70
    later = {picture.sha256: "train" for picture in train}
    assert not later.keys() & {picture.sha256 for picture in held_out}  # equal files are on one side
    later |= {picture.sha256: "held out" for picture in held_out}
    assert {name: later[name] for name in sides} == sides


def test_the_share_is_that_of_the_hash():
    pictures = [by_hash(f"{value:08x}") for value in (0, 0x3FFFFFFF, 0x40000000, 0xFFFFFFFF)]
    train, held_out = split_by_content(pictures, 0.25)
    assert (held_out, train) == (pictures[:2], pictures[2:])
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="at least 2 each"):
            split_by_content(pictures, share)


# pictures


def test_pictures_come_upright(tmp_path):
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    assert open_picture(tmp_path / "turned.png").tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_transparency_shows_white(tmp_path):
    rgba = Image.fromarray(np.array([[[200, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8))
    rgba.save(tmp_path / "rgba.png")
    got = np.array(open_picture(tmp_path / "rgba.png"))
    assert got[0].tolist() == [[200, 0, 0], [255, 255, 255], [204, 204, 204]]

    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 1, 2, 3])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert np.array(open_picture(tmp_path / "palette.png"))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    palette.save(tmp_path / "opaque.png")
    assert np.array(open_picture(tmp_path / "opaque.png"))[0].tolist() == [[10, 20, 30], [1, 2, 3]]

    grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], dtype=np.uint8), "LA")
    grey.save(tmp_path / "grey.png")
    assert np.array(open_picture(tmp_path / "grey.png"))[0].tolist() == [[7, 7, 7], [255, 255, 255]]


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    got = np.array(open_picture(tmp_path / "deep.png"))[0]
    assert abs(got.astype(int) - [[0] * 3, [128] * 3, [255] * 3]).max() <= 1


def test_print_colours_become_screen_colours(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    red, green, blue = np.array(open_picture(tmp_path / "print.jpg"))[4, 4].astype(int)
    assert red > 200 and green < 60 and blue < 60


def test_what_is_no_picture_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("hello")
    for name in ("cut.png", "text.png", "gone.png"):
        with pytest.raises(InputError, match=name):
            open_picture(tmp_path / name)


def test_the_middle_is_kept_at_the_resolution():
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))
    got = np.array(fit_square(wide, 50, "box"))
    assert got.shape == (50, 50, 3)
    assert got.min() == 255
    pixels = Image.fromarray(np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3))
    doubled = np.array(fit_square(pixels, 8, "nearest"))
    assert (doubled == np.array(pixels).repeat(2, 0).repeat(2, 1)).all()
    with pytest.raises(InputError, match=r"'blurry' is unknown; choose one of nearest, box"):
        fit_square(wide, 50, "blurry")


def test_tensors_and_pictures_are_the_same_thing():
    pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert to_pil(pixels).size == (7, 5)
    assert torch.equal(to_tensor(to_pil(pixels)), pixels)


def test_a_grid_shows_every_picture():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    images = [torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8) for colour in colours]
    grid = np.array(labelled_grid({"a": images[:2], "b": images[2:]}, columns=["base", "LoRA"]))
    for colour in colours:
        assert (grid == colour).all(-1).sum() == 96 * 96
    centres = [np.argwhere((grid == colour).all(-1)).mean(0) for colour in colours]
    assert centres[0][0] == centres[1][0] < centres[2][0] == centres[3][0]
    assert centres[0][1] == centres[2][1] < centres[1][1] == centres[3][1]


# cache


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
