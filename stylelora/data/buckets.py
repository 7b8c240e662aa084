"""Aspect-ratio buckets: a few sizes of about one area, so that pictures of any shape lose little by cropping.

A batch holds pictures of one size. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from stylelora.records import InputError

Size = tuple[int, int]


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """Return the sizes that are the highest of their width, or the widest of their height, in resolution**2 pixels.

    Sides are multiples of `step` from half the resolution to twice.
    """
    sides = range(-(-resolution // 2 // step) * step, 2 * resolution + 1, step)
    wide = [(width, resolution**2 // width // step * step) for width in sides]
    return sorted({size for pair in wide for size in (pair, pair[::-1]) if min(pair) >= sides.start})


def fills(picture: Size, bucket: Size) -> bool:
    """Tell whether a picture covers a bucket without being enlarged."""
    return picture[0] >= bucket[0] and picture[1] >= bucket[1]


def nearest(picture: Size, buckets: Sequence[Size]) -> Size:
    """Return the bucket whose ratio of width to height is closest to the picture's; the larger one of equals."""

    def distance(bucket: Size) -> tuple:
        return abs(math.log(picture[0] * bucket[1] / (picture[1] * bucket[0]))), -bucket[0] * bucket[1], bucket

    return min(buckets, key=distance)


def choose_buckets(pictures: Sequence[Size], resolution: int, step: int, no_upscale: bool) -> list[Size]:
    """Return the bucket of each picture.

    Args:
        pictures: their sizes.
        resolution: side of the square bucket; the others have at most its area.
        step: what sides are a multiple of.
        no_upscale: a picture that does not fill its bucket gets a smaller one, its own size rounded down.

    Raises:
        InputError: if with `no_upscale` a side is below half the resolution.
    """
    buckets = bucket_sizes(resolution, step)
    chosen = [nearest(picture, buckets) for picture in pictures]
    if not no_upscale:
        return chosen
    least = min(min(bucket) for bucket in buckets)
    if small := [min(picture) for picture in pictures if min(picture) < least]:
        raise InputError(
            f"{len(small)} pictures have fewer than {least} pixels on a side, the smallest {min(small)}, too few for "
            "no_upscale; remove them, lower the resolution or turn no_upscale off"
        )
    return [
        bucket if fills(picture, bucket) else (picture[0] // step * step, picture[1] // step * step)
        for picture, bucket in zip(pictures, chosen, strict=True)
    ]


def join_small(pictures: Sequence[Size], buckets: Sequence[Size], least: int, no_upscale: bool) -> list[Size]:
    """Empty the buckets with too few pictures for a batch, the smallest first, into those nearest by aspect ratio.

    Args:
        pictures: their sizes.
        buckets: the bucket of each.
        least: pictures that a bucket must have.
        no_upscale: a picture goes only to a bucket that it fills.

    Returns:
        the bucket of each picture.

    Raises:
        InputError: if a picture can go nowhere.
    """
    buckets = list(buckets)
    while True:
        counts = Counter(buckets)
        bucket = min(counts, key=lambda size: (counts[size], size))
        if counts[bucket] >= least:
            return buckets
        others = [size for size in counts if size != bucket]
        for i, picture in enumerate(pictures):
            if buckets[i] == bucket:
                possible = [other for other in others if not no_upscale or fills(picture, other)]
                if not possible:
                    raise InputError(
                        f"{counts[bucket]} pictures of {bucket[0]}x{bucket[1]} px are too few for one batch and fill "
                        "no other bucket; lower batch_size, raise repeats or turn no_upscale off"
                    )
                buckets[i] = nearest(picture, possible)
