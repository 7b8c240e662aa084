"""Inception features for an FID comparable with the literature: the original weights, resized as clean-fid does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, Resampling, fromarray
from torch import Tensor

from stylelora.metrics.encoders import CHUNK, as_pil
from stylelora.records import InputError

SIDE, WIDTH = 299, 2048


class Inception:
    """The Inception network of 2015 (Szegedy et al. 2016) up to its last pooling, float32.

    The file is StyleGAN's conversion of the original weights to TorchScript, `inception-2015-12-05.pt`; other
    Inceptions, such as torchvision's, give other numbers. Its `layers` take pictures that are already resized and
    scaled, as in clean-fid (Parmar et al. 2022, "On Aliased Resizing"): each channel by Pillow's bicubic in float to
    299 x 299, neither rounded nor clipped afterwards, then (x - 128) / 128. Called as a whole, the network would
    resize without antialiasing.

    Attributes:
        name: the file's name without suffix; it is part of the metrics' names.

    Args:
        path: the TorchScript file.
        device: where the network runs; vectors always come back on the CPU.

    Raises:
        InputError: there is no such file, or it is not TorchScript with `layers` of 2048 outputs.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        self.name = Path(path).stem
        self.device = torch.device(device)
        if not Path(path).is_file():
            raise InputError(f"There is no file {path}: download inception-2015-12-05.pt and give its path.")
        try:
            self.layers = torch.jit.load(str(path), map_location="cpu").eval().layers
            with torch.no_grad():
                width = self.layers(torch.zeros(1, 3, SIDE, SIDE)).flatten(1).shape[1]
        except (RuntimeError, AttributeError) as error:
            raise InputError(f"{path} is not the Inception network: give inception-2015-12-05.pt.") from error
        if width != WIDTH:
            raise InputError(f"{path} gives {width} numbers, not {WIDTH}: give inception-2015-12-05.pt.")
        self.layers.to(self.device)  # outside the try: a full or missing device does not mean that the file is bad

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return the pooled features float32 (B, 2048), not normalised, of pictures uint8 (B, 3, H, W) or PIL images.

        Raises:
            InputError: the pictures are of another type, such as floats, whose range cannot be known.
        """
        pictures = as_pil(images)
        rows = [torch.empty(0, WIDTH)]
        for start in range(0, len(pictures), CHUNK):
            rows.append(self._features(torch.stack([_resized(one) for one in pictures[start : start + CHUNK]])))
        return torch.cat(rows)

    @torch.no_grad()
    def _features(self, pixels: Tensor) -> Tensor:
        """Run the network on pixels of 0 to 255, float32 (B, 3, 299, 299), in float32 even inside autocast."""
        with torch.autocast(self.device.type, enabled=False):
            return self.layers((pixels.to(self.device) - 128) / 128).flatten(1).float().cpu()


def _resized(picture: Image) -> Tensor:
    """Resize an RGB picture to float32 (3, 299, 299), values about 0 to 255 with slight overshoot at sharp edges."""
    channels = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)
    # one channel at a time: Pillow supports float pictures of one channel only
    return torch.from_numpy(
        np.stack([fromarray(channel).resize((SIDE, SIDE), Resampling.BICUBIC) for channel in channels])
    )
