"""Resizing, cropping and tiling."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylelora.data.images import degrade, fit, labelled_grid, lost_share, to_pil, to_tensor
from stylelora.records import InputError


def random_picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["box", "bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("size", [(50, 50), (30, 70)])
def test_the_middle_is_kept_at_the_size(interpolation, size):
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (90, 0, 210, 100))  # kernels reach a little beyond the cut
    got = np.array(fit(wide, size, interpolation))
    assert got.shape == (size[1], size[0], 3)
    assert got.min() == 255


def test_an_unknown_kernel_is_refused():
    with pytest.raises(InputError, match=r"'blurry' is unknown; choose one of nearest, box"):
        fit(Image.new("RGB", (8, 8)), (50, 50), "blurry")


@pytest.mark.parametrize(
    ("shape", "size", "factor"),
    [
        ((32, 32), (64, 64), 2),
        ((32, 32), (512, 512), 16),
        ((8, 4), (32, 16), 4),
        ((20, 20), (64, 64), 3),  # 60 of 64
        ((21, 30), (64, 64), 2),
        ((16, 8), (64, 64), 4),
    ],
)
def test_nearest_enlarges_by_a_whole_factor_and_continues_the_border(shape, size, factor):
    image = random_picture(*shape)
    got = np.array(fit(image, size, "nearest"))
    enlarged = np.array(image).repeat(factor, 0).repeat(factor, 1)
    top, left = (size[1] - enlarged.shape[0]) // 2, (size[0] - enlarged.shape[1]) // 2
    bottom, right = size[1] - enlarged.shape[0] - top, size[0] - enlarged.shape[1] - left
    assert np.array_equal(got, np.pad(enlarged, ((top, bottom), (left, right), (0, 0)), "edge"))


@pytest.mark.parametrize("cell", [2, 3, 8])
@pytest.mark.parametrize("rest", [0, 1])
def test_nearest_takes_one_pixel_of_each_cell(cell, rest):
    """Enlarged pixel art comes back, even if its pixels have blurred edges and the last row is cut."""
    native = np.array(random_picture(16, 16))
    large = native.repeat(cell, 0).repeat(cell, 1)
    if cell > 2:
        large[::cell], large[:, ::cell] = 77, 77
    large = np.pad(large, ((0, rest), (0, rest), (0, 0)), "edge")
    assert np.array_equal(np.array(fit(Image.fromarray(large), (16, 16), "nearest")), native)


def test_nearest_crops_what_no_whole_factor_brings_to_the_size():
    image = random_picture(100, 32)
    got, pixels = np.array(fit(image, (64, 64), "nearest")), np.array(image)[:, 18:82]
    assert np.array_equal(got, np.pad(pixels, ((16, 16), (0, 0), (0, 0)), "edge"))


@pytest.mark.parametrize(("side", "source_size"), [(64, 4), (64, 16), (60, 20), (64, 64)])
def test_degrading_by_a_whole_factor_gives_the_means_of_blocks(side, source_size):
    image = random_picture(side, side)
    got = np.array(degrade(image, source_size))
    cell = side // source_size
    means = np.array(image).reshape(source_size, cell, source_size, cell, 3).mean((1, 3))
    assert np.array_equal(got, means.round())
    back = fit(Image.fromarray(got), (64 // source_size * source_size,) * 2, "nearest")
    assert np.array_equal(np.array(back), got.repeat(64 // source_size, 0).repeat(64 // source_size, 1))


@pytest.mark.parametrize(("side", "source_size"), [(50, 7), (33, 32), (7, 5)])
def test_degrading_gives_the_mean_of_the_area_that_a_pixel_covers(side, source_size):
    """The same by whole factors: each pixel repeated until the sides divide."""
    image = random_picture(side, side)
    fine = np.array(image).repeat(source_size, 0).repeat(source_size, 1).astype(float)
    means = fine.reshape(source_size, side, source_size, side, 3).mean((1, 3))
    assert np.abs(np.array(degrade(image, source_size)) - means).max() <= 0.5 + 1e-9


def test_degrading_keeps_the_middle_square():
    image = random_picture(90, 50)
    assert degrade(image, 10).tobytes() == degrade(image.crop((20, 0, 70, 50)), 10).tobytes()
    with pytest.raises(InputError, match="50 px cannot be reduced to 51 px"):
        degrade(image, 51)


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


def test_a_grid_shows_pictures_of_several_sizes_whole_and_leaves_gaps():
    sizes = {10: (16, 16), 20: (16, 32), 30: (40, 16)}  # level: height and width
    small, wide, tall = (torch.full((3, *size), level, dtype=torch.uint8) for level, size in sizes.items())
    grid = np.array(labelled_grid([("", [small, None]), ("", [wide, tall]), ("", [small, small])], ["", ""], side=32))
    for level, (height, width) in sizes.items():
        shown = (grid == level).all(2)
        assert shown.sum() == 2 * height * 2 * width * (3 if level == 10 else 1)  # twice as large
        if level != 10:
            rows, columns = np.nonzero(shown)
            assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (2 * height, 2 * width)
    assert len(grid) == 20 + 2 * (16 + 40 + 16) + 3 * 4


SHAPES = [(10, 10), (100, 10), (7, 91), (96, 60), (31, 30)]


@pytest.mark.parametrize("size", [(30, 30), (12, 40)])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_lost_is_what_is_outside_the_largest_part_of_that_shape(shape, size):
    (width, height), (across, upright) = shape, size
    shown = min(width, height * across / upright) * min(height, width * upright / across)
    assert lost_share(shape, size, "lanczos") == pytest.approx(1 - shown / (width * height))


@pytest.mark.parametrize("size", [(30, 30), (12, 40)])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_nearest_loses_is_what_its_pixels_do_not_stand_for(shape, size):
    """Columns and rows have numbers for colours; each that is left stands for those that it was taken from."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]))
    got = np.asarray(fit(Image.fromarray(np.dstack([x, y, 0 * x]).astype(np.uint8)), size, "nearest"))
    step = max(1, min(shape[0] // size[0], shape[1] // size[1]))
    left = [min(step * len(np.unique(got[..., axis])), shape[axis]) for axis in (0, 1)]
    assert lost_share(shape, size, "nearest") == pytest.approx(1 - left[0] * left[1] / (shape[0] * shape[1]), abs=0.02)


def test_a_wide_picture_loses_its_sides_or_nothing_if_it_is_small_pixel_art():
    assert lost_share((400, 100), (64, 64), "lanczos") == 0.75
    assert lost_share((400, 100), (256, 64), "lanczos") == 0
    assert lost_share((32, 16), (64, 64), "nearest") == 0  # its border is continued
    assert lost_share((128, 32), (64, 64), "nearest") == 0.5
