import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylelora.metrics.attainment import calibrate
from stylelora.metrics.collage import crops, spatial_dispersion
from stylelora.metrics.style import style_similarity
from stylelora.records import InputError

RED, BLUE, GREY = (torch.tensor(colour)[:, None, None] for colour in ((220, 40, 40), (40, 40, 220), (120, 120, 120)))


def mean_colour(images):
    return F.normalize(images.float().mean((2, 3)), dim=1)


def painted(colour, n=6, side=64):
    noise = torch.randint(-30, 31, (n, 3, side, side), generator=torch.Generator().manual_seed(n))
    return (colour + noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def judge():
    references = tuple(mean_colour(painted(colour, 5)) for colour in (RED, BLUE))
    similar = lambda colour, style: style_similarity(mean_colour(painted(colour)), style)  # noqa: E731
    scales = tuple(
        calibrate(similar(GREY, style), similar(colour, style), range(6))
        for colour, style in zip((RED, BLUE), references, strict=True)
    )
    return lambda images, **kwargs: spatial_dispersion(images, mean_colour, references, scales, **kwargs), scales


def test_a_picture_half_and_half_scores_high_and_whole_ones_low(judge):
    score, _ = judge
    collage = painted(RED)
    collage[..., 32:] = painted(BLUE)[..., 32:]
    got = score(collage)
    assert got.shape == (6,)
    for whole in (RED, BLUE, GREY, (RED + BLUE) // 2):  # the last has both styles everywhere
        assert score(painted(whole)).max() < 0.1
    assert got.min() > 1


def test_dispersion_is_that_of_the_crops_one_by_one(judge):
    score, (first, second) = judge
    images = torch.randint(0, 256, (3, 3, 9, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    references = [mean_colour(painted(colour, 5)) for colour in (RED, BLUE)]
    want = []
    for image in images:
        row = []
        for top in (0, 3, 6):
            for left in (0, 4, 8):
                vector = mean_colour(image[None, :, top : top + 3, left : left + 4])
                a, b = (float(style_similarity(vector, style)) for style in references)
                row.append((a - first.base) / first.span.value - (b - second.base) / second.span.value)
        want.append(np.std(row))
    assert score(images) == pytest.approx(np.array(want), abs=1e-5)
    assert score(images, grid=1) == pytest.approx(np.zeros(3))


def test_the_place_of_a_corner_does_not_matter(judge):
    score, _ = judge
    images = painted(GREY, side=48)
    images[..., :16, :16] = painted(RED, side=48)[..., :16, :16]
    assert score(images.flip(-1)) == pytest.approx(score(images), abs=1e-5)
    assert score(images.transpose(2, 3)) == pytest.approx(score(images), abs=1e-5)


def test_crops_are_of_one_size_and_reach_every_edge():
    images = torch.arange(2 * 3 * 64 * 65).reshape(2, 3, 64, 65).remainder(251).to(torch.uint8)
    got = crops(images)
    assert got.shape == (18, 3, 21, 21)
    assert torch.equal(got[0], images[0, :, :21, :21])
    assert torch.equal(got[2], images[0, :, :21, -21:])
    assert torch.equal(got[6], images[0, :, -21:, :21])
    assert torch.equal(got[17], images[1, :, -21:, -21:])
    pieces = crops(images[..., :63, :63]).reshape(2, 3, 3, 3, 21, 21)
    assert torch.equal(pieces.permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 63, 63), images[..., :63, :63])  # no pixel lost


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(1, 3, 9, 9),
        torch.zeros(3, 9, 9, dtype=torch.uint8),
        torch.zeros(1, 1, 9, 9).byte(),
        torch.zeros(1, 3, 2, 9).byte(),
    ],
)
def test_pictures_that_cannot_be_cut_are_refused(images):
    with pytest.raises(InputError, match="uint8"):
        crops(images)
