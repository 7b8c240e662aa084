"""Icons, glyphs and people in the looks that styles are made of, for the autoencoder."""

from __future__ import annotations

import random

import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from datamodules.pretraining.icons import Icons
from stylelora.pretraining import augment
from stylelora.pretraining.icon_table import GLYPH_SETS, TRAIN_SETS, build_icon_table
from stylelora.pretraining.looks import LOOKS, drawn_in
from stylelora.pretraining.people import build_people

#: Sampling weight of each kind of picture.
SHARES = {"icons": 0.55, "glyphs": 0.15, "people": 0.3}


class LookedIcons(Icons):
    """Pictures that show an autoencoder what styles are made of: lines, blocks, grain, faces, full backgrounds.

    Args:
        people: people drawn of each set.
        plain: share of the pictures that no look is laid on.
        root: folder for the fetched archives and the rendered tables.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    def __init__(
        self, people: int = 400, plain: float = 0.5, root: str = ".cache/npm", batch_size: int = 16, size: int = 64
    ) -> None:
        super().__init__(root, batch_size, size)
        self.people, self.plain = people, plain

    def prepare_data(self) -> None:
        """Fetch and render the icon sets, draw the people (about 3 minutes, once)."""
        super().prepare_data()
        build_icon_table(GLYPH_SETS, self.root, self.size)
        build_people(self.people, self.root, self.size)

    def setup(self, stage: str) -> None:
        """Read the tables."""
        super().setup(stage)
        tables = {
            "icons": build_icon_table(TRAIN_SETS, self.root, self.size).pixels,
            "glyphs": build_icon_table(GLYPH_SETS, self.root, self.size).pixels,
            "people": build_people(self.people, self.root, self.size).pixels,
        }
        self.train = torch.cat([torch.from_numpy(pixels).permute(0, 3, 1, 2) for pixels in tables.values()])
        self.weights = torch.cat(
            [torch.full((len(pixels),), SHARES[kind] / len(pixels)) for kind, pixels in tables.items()]
        )

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn pictures uint8 (B, 4, H, W) into random training pictures float (B, 3, H, W) in [-1, 1]."""
        rgba = augment.random_outline(rgba, 0.3)
        behind = augment.busy_background(augment.flattened(rgba, torch.ones(())), share=0.2)
        images = augment.flattened(rgba, behind)
        images = augment.random_affine(images, zoom=(0.6, 1.7), shift=0.2, degrees=10, p=0.4)
        images = augment.random_colour(augment.random_flip(images), 0.3)
        images = augment.random_blocks(augment.random_tone(images, 0.2), 0.2)
        share = (1 - self.plain) / len(LOOKS)
        looks = random.choices([None, *LOOKS], [self.plain] + [share] * len(LOOKS), k=len(images))
        return augment.random_texture(drawn_in(images, looks), 0.1) * 2 - 1

    def train_dataloader(self) -> DataLoader:
        """Random pictures, weighted by kind; an epoch is as long as the data set."""
        sampler = WeightedRandomSampler(self.weights, len(self.train))
        return DataLoader(self.train, self.batch_size, sampler=sampler, drop_last=True)
