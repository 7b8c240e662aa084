"""Perceptual hashes and groups of duplicates."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.sparse.csgraph import connected_components

from stylelora.data.styles import STYLES
from stylelora.preprocess.duplicates import NEAR, duplicate_groups, perceptual_hash
from stylelora.records import InputError

PICTURES = sorted(STYLES["watercolor"].folder.glob("*.jpg"))[:20]


def distance(first, second):
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


def groups_by_all_pairs(sha256, hashes, bits):
    """Connected groups of the full matrix of pairs."""
    near = [
        [a == b or (x ^ y).bit_count() <= bits for b, y in zip(sha256, hashes, strict=True)]
        for a, x in zip(sha256, hashes, strict=True)
    ]
    labels = connected_components(np.array(near))[1]
    groups = [np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1)]
    return sorted(group for group in groups if len(group) > 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((64, 64), Image.Resampling.BICUBIC),
        lambda image: image.resize((256, 256), Image.Resampling.NEAREST),
        lambda image: ImageEnhance.Brightness(image).enhance(0.9),
        lambda image: image.quantize(64).convert("RGB"),
    ],
)
def test_variants_are_near_their_original(change):
    assert all(distance(image, change(image)) <= NEAR for image in map(Image.open, PICTURES))


def test_a_mirror_image_and_other_pictures_are_not_near():
    images = [Image.open(path) for path in PICTURES]
    assert all(distance(image, ImageOps.mirror(image)) > 3 * NEAR for image in images)
    assert all(distance(a, b) > NEAR for i, a in enumerate(images) for b in images[:i])


def test_the_hash_is_the_sign_of_the_lowest_frequencies():
    image = Image.open(PICTURES[0])
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    k, n = np.arange(8)[:, None], np.arange(32)
    cosine = np.cos(np.pi * k * (2 * n + 1) / 64)
    low = cosine @ grey @ cosine.T
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert perceptual_hash(image) == int(bits, 2)


@pytest.mark.parametrize("bits", [0, 1, 4, 9])
def test_groups_are_those_of_all_pairs(bits):
    rng = np.random.default_rng(bits)
    hashes = [int(seed) for seed in rng.integers(2**62, 2**63, 40)]
    for _ in range(160):  # chains and stars that grow from the first forty
        flips = rng.integers(0, 64, rng.integers(0, 12))
        hashes.append(hashes[rng.integers(len(hashes))] ^ sum({1 << int(flip) for flip in flips}))
    sha256 = [str(i) for i in range(200)]
    for i in range(20):
        hashes.append(hashes[i])
        sha256.append(sha256[i])
    order = rng.permutation(220)
    hashes, sha256 = [hashes[i] for i in order], [sha256[i] for i in order]
    assert min(value.bit_count() for value in hashes) >= 12
    got = duplicate_groups(sha256, hashes, bits)
    assert [list(group.members) for group in got] == groups_by_all_pairs(sha256, hashes, bits)
    assert [group.distinct for group in got] == [len({sha256[i] for i in group.members}) for group in got]


def test_exact_copies_are_told_from_near_ones():
    half = 2**32 - 1
    hashes = [half << 9, half, half << 20, half, half << 20, half ^ 7]
    near, exact = duplicate_groups(["a", "b", "c", "b", "c", "d"], hashes)
    assert (near.members, near.distinct, near.exact) == ((1, 3, 5), 2, False)
    assert (exact.members, exact.distinct, exact.exact) == ((2, 4), 1, True)


def test_flat_and_regular_pictures_are_duplicates_by_their_bytes_only():
    y, x = np.mgrid[:64, :64]
    pictures = [x * 0 + 10, x * 0 + 240, x * 4, (x // 8 % 2) * 255, (y // 4 % 2) * 255]
    hashes = [perceptual_hash(Image.fromarray(picture.astype(np.uint8))) for picture in pictures]
    assert (hashes[0] ^ hashes[1]).bit_count() <= NEAR
    assert duplicate_groups(list("abcde"), hashes) == []
    assert [group.members for group in duplicate_groups(list("abcda"), [*hashes[:4], hashes[0]])] == [(0, 4)]


def test_nothing_has_no_duplicates_and_nonsense_is_refused():
    assert duplicate_groups([], []) == []
    with pytest.raises(InputError, match="32 bits between duplicates is out of range; give 0 to 31"):
        duplicate_groups(["a"], [1], 32)
