"""Random numbers that depend on their purpose, not on the order of the draws.

A draw is keyed by a tuple such as (seed, epoch, picture). So it does not depend on the batch size, the number of
devices or whether a callback sampled pictures in between, and resuming after an epoch needs no saved generator state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
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
