"""Aspect-ratio buckets: a few sizes of roughly equal area, so that images of any shape lose little to cropping.

All images of a batch share one size. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from stylelora.records import InputError

Size = tuple[int, int]


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """Return the bucket sizes: for each width the largest height within resolution**2 pixels, and vice versa.

    Sides are multiples of `step`, from half to twice the resolution.
    """
    sides = range(-(-resolution // 2 // step) * step, 2 * resolution + 1, step)
    wide = [(width, resolution**2 // width // step * step) for width in sides]
    return sorted({size for pair in wide for size in (pair, pair[::-1]) if min(pair) >= sides.start})


def fills(picture: Size, bucket: Size) -> bool:
    """Return whether an image covers a bucket without upscaling."""
    return picture[0] >= bucket[0] and picture[1] >= bucket[1]


def nearest(picture: Size, buckets: Sequence[Size]) -> Size:
    """Return the bucket whose aspect ratio is closest to the picture's; ties go to the larger bucket."""

    def distance(bucket: Size) -> tuple:
        return abs(math.log(picture[0] * bucket[1] / (picture[1] * bucket[0]))), -bucket[0] * bucket[1], bucket

    return min(buckets, key=distance)


def choose_buckets(pictures: Sequence[Size], resolution: int, step: int, no_upscale: bool) -> list[Size]:
    """Assign a bucket to each picture.

    Args:
        pictures: sizes of the pictures.
        resolution: side of the square bucket; other buckets have at most its area.
        step: sides are multiples of this.
        no_upscale: give a picture that does not fill its bucket a smaller one: its own size rounded down to `step`.

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


def join_small(
    pictures: Sequence[Size],
    buckets: Sequence[Size],
    least: int,
    no_upscale: bool,
    repeats: Sequence[int] | None = None,
) -> list[Size]:
    """Merge buckets too small for a batch into those nearest in aspect ratio, smallest bucket first.

    Args:
        pictures: sizes of the pictures.
        buckets: bucket of each picture.
        least: minimum number of pictures per bucket.
        no_upscale: move a picture only to a bucket that it fills.
        repeats: how often each picture counts; default: once.

    Returns:
        bucket of each picture.

    Raises:
        InputError: if no bucket can take a picture.
    """
    buckets, repeats = list(buckets), repeats or [1] * len(buckets)
    while True:
        counts: Counter[Size] = Counter()
        for size, count in zip(buckets, repeats, strict=True):
            counts[size] += count
        bucket = min(counts, key=lambda size: (counts[size], size))
        if counts[bucket] >= least:
            return buckets
        others = [size for size in counts if size != bucket]
        for i, picture in enumerate(pictures):
            if buckets[i] == bucket:
                possible = [other for other in others if not no_upscale or fills(picture, other)]
                if not possible:
                    raise InputError(
                        f"{buckets.count(bucket)} pictures of {bucket[0]}x{bucket[1]} px are too few for one batch and "
                        "fill no other bucket; lower batch_size, raise repeats or turn no_upscale off"
                    )
                buckets[i] = nearest(picture, possible)


def batches_of(buckets: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Return the samples in batches of one bucket, in their order and each once; the last of a bucket may be short."""
    rows = defaultdict(list)
    for row, bucket in enumerate(buckets):
        rows[bucket].append(row)
    return [some[i : i + batch_size] for some in rows.values() for i in range(0, len(some), batch_size)]
