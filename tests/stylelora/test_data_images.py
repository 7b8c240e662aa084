"""Reading, cropping and tiling."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylelora.data.images import fit_square, labelled_grid, open_picture, to_pil, to_tensor
from stylelora.records import InputError


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
    grid = np.array(labelled_grid([("a", images[:2]), ("b", images[2:])], columns=["base", "LoRA"]))
    for colour in colours:
        assert (grid == colour).all(-1).sum() == 96 * 96
    centres = [np.argwhere((grid == colour).all(-1)).mean(0) for colour in colours]
    assert centres[0][0] == centres[1][0] < centres[2][0] == centres[3][0]
    assert centres[0][1] == centres[2][1] < centres[1][1] == centres[3][1]
