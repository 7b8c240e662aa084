"""Random numbers that depend on their purpose, not on the order of the draws.

A draw is keyed by a tuple such as (seed, epoch, picture). So it does not depend on the batch size, the number of
devices or whether a callback sampled pictures in between, and resuming after an epoch needs no saved generator state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stylelora.seeds import generator


def normal(keys: Sequence[tuple], shape: Sequence[int]) -> Tensor:
    """Draw one standard normal tensor per key, float32 (len(keys), *shape)."""
    return torch.stack([torch.randn(*shape, generator=generator(*key)) for key in keys])


def uniform(keys: Sequence[tuple]) -> Tensor:
    """Draw one number per key, float32 (len(keys),), uniform in [0, 1)."""
    return torch.cat([torch.rand(1, generator=generator(*key)) for key in keys])


def timesteps(keys: Sequence[tuple], count: int) -> Tensor:
    """Draw one timestep per key, int64 (len(keys),), uniform in 0..count-1."""
    return torch.cat([torch.randint(count, (1,), generator=generator(*key)) for key in keys])


def pyramid(draw: Tensor, keys: Sequence[tuple], iterations: int, discount: float) -> Tensor:
    """Add noise of coarser scales (Whitaker 2023), and bring each sum back to unit variance.

    Scale i is r^i times coarser, with r drawn from 2 to 4 each time, and counts discount^i; the first, i = 0, is as
    fine as the noise itself, as in the published recipe and in kohya.

    Args:
        draw: standard normal, float (B, C, H, W).
        keys: one per picture.
        iterations: number of scales.
        discount: factor from each scale to the next.
    """
    channels, height, width = draw.shape[1:]
    pictures = []
    for one, key in zip(draw, keys, strict=True):
        one = one[None]
        for i in range(iterations):
            scale = (2 + 2 * float(uniform([("pyramid_scale", i, *key)]))) ** i
            size = max(1, int(height / scale)), max(1, int(width / scale))
            coarse = normal([("pyramid", i, *key)], (channels, *size))
            one = one + discount**i * F.interpolate(coarse, (height, width), mode="bilinear")
            if 1 in size:
                break
        pictures.append(one / one.std())
    return torch.cat(pictures)
