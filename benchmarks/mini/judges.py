"""Two judges that recognise which of the base's concepts a picture shows, and the real icons they are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylelora.base.concepts import load_concepts, with_article
from stylelora.metrics.efficientnet import EfficientNetLite0
from stylelora.metrics.encoders import ClipEncoder
from stylelora.pretraining.augment import flattened
from stylelora.pretraining.icon_table import TRAIN_SETS, build_icon_table
from stylelora.pretraining.recolour import colour_name

#: Things whose colour people ask for, of all kinds; the twenty of the card.
COLOURED = (
    *("apple", "balloon", "bell", "bird", "book", "butterfly", "car", "cat", "chair", "dress", "fish", "frog", "gift"),
    *("guitar", "hat", "house", "mushroom", "rose", "shirt", "umbrella"),
)


def icons(sets: dict[str, str], root: Path | str, concepts_only: bool = True) -> tuple[Tensor, Tensor]:
    """Return icons on white, uint8 (N, 3, 64, 64), and the index of their concept, int (N,), -1 for none."""
    table, order = build_icon_table(sets, root), list(load_concepts())
    label = torch.tensor([order.index(slug) if slug in order else -1 for slug in table.slugs.tolist()])
    pixels = flattened(torch.from_numpy(table.pixels).permute(0, 3, 1, 2), torch.ones(()))
    pixels = (pixels * 255).round().to(torch.uint8)
    return (pixels[label >= 0], label[label >= 0]) if concepts_only else (pixels, label)


class Scorer:
    """The embedded scorer: picks the nearest concept name."""

    name = "scorer"

    def __init__(self, path_or_id: str = "mini") -> None:
        self.clip = ClipEncoder(path_or_id)
        self.texts = self.clip.encode_texts([with_article(name) for name in load_concepts().values()])

    def guess(self, images: Tensor) -> Tensor:
        """Return the index of the concept recognised in each picture, int (B,)."""
        return (self.clip.encode_images(images) @ self.texts.T).argmax(1)


class NearestMean:
    """EfficientNet-Lite0: picks the concept whose training icons have the nearest mean feature.

    It is a second judge, but not independent: the scorer was trained with these features (not with these means).
    """

    name = "second judge"

    def __init__(self, root: Path | str) -> None:
        self.network = EfficientNetLite0()
        images, label = icons(TRAIN_SETS, root)
        features = self.network.encode_images(images)
        self.centre, self.scale = features.mean(0), features.std(0) + 1e-3
        rows = self._unit(features)
        self.means = F.normalize(torch.stack([rows[label == i].mean(0) for i in range(len(load_concepts()))]), dim=1)

    def _unit(self, features: Tensor) -> Tensor:
        return F.normalize((features - self.centre) / self.scale, dim=1)

    def guess(self, images: Tensor) -> Tensor:
        """Return the index of the concept recognised in each picture, int (B,)."""
        return (self._unit(self.network.encode_images(images)) @ self.means.T).argmax(1)


def colours_obeyed(images: Tensor, colours: Sequence[str]) -> Tensor:
    """Return for each picture uint8 (B, 3, H, W) whether its object has the prompted colour, bool (B,)."""
    seen = [colour_name(image.permute(1, 2, 0).numpy()) for image in images]
    return torch.tensor([name == colour for name, colour in zip(seen, colours, strict=True)])


def count_things(image: np.ndarray, least: float = 0.015) -> int:
    """Count separate objects on a white background.

    Args:
        image: uint8 (H, W, 3).
        least: minimum area of an object as a share of the picture; smaller specks are not counted.
    """
    thing = torch.from_numpy((image.astype(int).min(2) < 225).astype(np.float32))
    names = (torch.arange(1, thing.numel() + 1).view_as(thing) * thing)[None, None]
    for _ in range(sum(image.shape[:2]) * 2):  # the largest label spreads over each connected component
        grown = F.max_pool2d(names, 3, 1, 1) * thing
        if torch.equal(grown, names):
            break
        names = grown
    _, areas = names[names > 0].unique(return_counts=True)
    return int((areas >= least * thing.numel()).sum())
