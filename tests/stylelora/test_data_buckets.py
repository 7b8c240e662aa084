"""Sizes that pictures are brought to."""

import random
from collections import Counter

import pytest

from stylelora.base.load import MINI, check_resolution, size_step
from stylelora.data.buckets import bucket_sizes, choose_buckets, fills, join_small, nearest
from stylelora.records import InputError


@pytest.mark.parametrize("base", ["mini", "tiny_sd"])
def test_the_step_is_the_smallest_side_that_the_base_accepts(base, tiny_sd):
    folder, step = (MINI, 16) if base == "mini" else (tiny_sd, 64)
    assert size_step(folder) == step
    check_resolution(folder, step)
    with pytest.raises(InputError):
        check_resolution(folder, step // 2)


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (768, 64), (64, 16), (128, 64), (64, 64)])
def test_sizes_are_those_that_fill_the_area(resolution, step):
    """Found by trying all."""
    area, sides = resolution**2, range(step, 2 * resolution + 1, step)
    allowed = {(w, h) for w in sides for h in sides if w * h <= area and min(w, h) >= resolution / 2}
    highest = {w: max(b for a, b in allowed if a == w) for w, _ in allowed}
    sizes = bucket_sizes(resolution, step)
    assert sizes == sorted((w, h) for w, h in allowed if highest[w] == h or highest[h] == w)
    assert (resolution, resolution) in sizes
    assert {size[::-1] for size in sizes} == set(sizes)


def test_a_picture_goes_to_the_size_of_its_shape():
    for picture, bucket in {
        (1000, 1000): (512, 512), (4000, 3000): (576, 448), (1920, 1080): (640, 384), (500, 3000): (256, 1024),
        (64, 64): (512, 512), (100, 75): (576, 448),
    }.items():  # fmt: skip
        assert choose_buckets([picture], 512, 64, no_upscale=False) == [bucket]


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (64, 16)])
def test_without_upscaling_every_picture_fills_its_size(resolution, step):
    draw = random.Random(0)
    pictures = [(draw.randint(resolution // 2, 3 * resolution), draw.randint(resolution // 2, resolution))
                for _ in range(2000)]  # fmt: skip
    pictures += [(height, width) for width, height in pictures]
    loose = choose_buckets(pictures, resolution, step, no_upscale=False)
    for picture, bucket, other in zip(
        pictures, choose_buckets(pictures, resolution, step, no_upscale=True), loose, strict=True
    ):
        assert fills(picture, bucket)
        assert bucket == other or not fills(picture, other)
        assert bucket[0] % step == bucket[1] % step == 0
        assert min(bucket) >= resolution // 2
        assert max(bucket) <= 2 * resolution
        assert bucket[0] * bucket[1] <= resolution**2
        assert bucket == other or (picture[0] - bucket[0] < step and picture[1] - bucket[1] < step)


def test_what_is_too_small_is_refused_with_numbers():
    with pytest.raises(InputError, match="2 pictures have fewer than 256 pixels on a side, the smallest 200"):
        choose_buckets([(255, 900), (512, 512), (300, 200)], 512, 64, no_upscale=True)


def test_the_nearest_shape_wins_and_of_equals_the_larger():
    assert nearest((290, 200), [(100, 100), (200, 100)]) == (200, 100)  # 1.45 is nearer to 2 than to 1, as a ratio
    assert nearest((200, 290), [(100, 100), (100, 200)]) == (100, 200)
    assert nearest((100, 100), [(64, 64), (128, 128), (64, 128)]) == (128, 128)


@pytest.mark.parametrize("least", [1, 3, 5, 12])
def test_no_bucket_is_left_with_too_few(least):
    draw = random.Random(1)
    pictures = [(draw.randint(300, 2000), draw.randint(300, 2000)) for _ in range(40)]
    before = choose_buckets(pictures, 512, 64, no_upscale=False)
    after = join_small(pictures, before, least, no_upscale=False)
    counts = Counter(before)
    assert min(Counter(after).values()) >= least
    assert set(after) <= set(before)
    for old, new in zip(before, after, strict=True):
        assert old == new or counts[old] < least
    if least > 1:
        assert before != after


def test_the_smallest_bucket_goes_first_to_the_nearest_in_use():
    pictures = [(10, 10)] * 4 + [(20, 10)] * 2 + [(30, 10)] + [(11, 10)]
    buckets = [(10, 10)] * 4 + [(20, 10)] * 2 + [(30, 10)] + [(10, 10)]
    assert join_small(pictures, buckets, 3, no_upscale=False)[4:] == [(20, 10)] * 3 + [(10, 10)]


def test_a_picture_is_joined_to_none_that_it_does_not_fill():
    pictures = [(512, 512)] * 4 + [(300, 300)] + [(256, 256)] * 4
    buckets = [(512, 512)] * 4 + [(256, 300)] + [(256, 256)] * 4
    assert join_small(pictures, buckets, 4, no_upscale=True)[4] == (256, 256)
    assert join_small(pictures, buckets, 4, no_upscale=False)[4] == (512, 512)
    with pytest.raises(InputError, match="1 pictures of 256x300 px are too few for one batch and fill no other"):
        join_small(pictures[:5], buckets[:5], 4, no_upscale=True)


def test_upright_and_lying_are_alike():
    buckets = bucket_sizes(512, 64)
    for picture in ((700, 300), (1500, 1100), (333, 999)):
        assert nearest(picture[::-1], buckets) == nearest(picture, buckets)[::-1]
