"""Controls for measures of blends: pictures that do not blend, made from those of the two adapters alone."""

from __future__ import annotations

import torch
from torch import Tensor

from stylelora.records import InputError


def pixel_average(first: Tensor, second: Tensor, share: float = 0.5) -> Tensor:
    """Average each pair of pictures pixel by pixel: both styles are everywhere but faint, and two contents overlap.

    Args:
        first: pictures of style A's adapter alone, uint8 (N, 3, H, W).
        second: of style B's, same prompts and seeds.
        share: of A, in [0, 1].

    Returns:
        uint8 (N, 3, H, W).

    Raises:
        InputError: other pictures, or a share beyond its range.
    """
    _check(first, second, share)
    return (share * first.float() + (1 - share) * second.float()).round().to(torch.uint8)


def cut(first: Tensor, second: Tensor, share: float = 0.5) -> Tensor:
    """Join the left part of each first picture to the right part of the second: a collage.

    Args:
        first: pictures of style A's adapter alone, uint8 (N, 3, H, W).
        second: of style B's, same prompts and seeds.
        share: of the width that is A's, in [0, 1].

    Returns:
        uint8 (N, 3, H, W).

    Raises:
        InputError: other pictures, or a share beyond its range.
    """
    _check(first, second, share)
    border = round(share * first.shape[-1])
    return torch.cat([first[..., :border], second[..., border:]], -1)


def _check(first: Tensor, second: Tensor, share: float) -> None:
    if first.shape != second.shape or first.ndim != 4 or {first.dtype, second.dtype} != {torch.uint8}:
        raise InputError("Controls need uint8 pictures (N, 3, H, W) of both adapters, as many and as large.")
    if not 0 <= share <= 1:
        raise InputError(f"share must lie between 0 and 1, not {share}.")
