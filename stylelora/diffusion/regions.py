"""Region masks: where in the picture each adapter acts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylelora.data.reading import check_size, picture_bytes
from stylelora.records import InputError

SIDES = ("left", "right", "top", "bottom")


def region_mask(region: str, height: int, width: int) -> Tensor:
    """Return an adapter's mask, float32 (1, 1, height, width) in 0..1.

    Args:
        region: left, right, top or bottom half, or a picture that is white where the adapter acts and black where it
            does not; grey lies between.
        height: height of the latents.
        width: width of the latents.

    Raises:
        InputError: if it is neither.
    """
    if region in SIDES:
        mask = torch.zeros(height, width)
        halves = {"left": mask[:, : width // 2], "right": mask[:, width // 2 :]}
        halves |= {"top": mask[: height // 2], "bottom": mask[height // 2 :]}
        halves[region].fill_(1)  # a view of the mask
        return mask[None, None]
    try:
        with Image.open(io.BytesIO(picture_bytes(Path(region)))) as image:
            check_size(*image.size)
            grey = image.convert("L").resize((width, height), Image.Resampling.BOX)
    except (InputError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"region {region!r} is not a picture; give one, or one of {', '.join(SIDES)}") from error
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)[None, None]


def regional_shares(shares: Sequence[float], masks: Sequence[Tensor]) -> list[Tensor]:
    """Return pi of each adapter at each position: pi_i M_i / sum_j pi_j M_j where the masks add up to 1 or more.

    Where they add up to less, so does the result; the rest, 1 - sum_i of the result, is the base's share.

    Args:
        shares: pi of each adapter in the whole picture.
        masks: M of each adapter, float (1, 1, H, W).
    """
    weighted = [share * mask for share, mask in zip(shares, masks, strict=True)]
    total, covered = torch.stack(weighted).sum(0), torch.stack(list(masks)).sum(0).clamp(max=1)
    return [covered * one / total.clamp(min=1e-12) for one in weighted]
