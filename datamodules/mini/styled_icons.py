"""Pictures of many styles for the style encoder."""

from __future__ import annotations

import random

import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules.mini.icons import Icons
from stylelora.data import augment
from stylelora.data.icon_table import STYLE_SETS, TEST_SETS, TRAIN_SETS, build_icon_table
from stylelora.data.renderings import RENDERINGS


class StyledIcons(Icons):
    """Icons of many sets in many renderings; a style is a pair of both, and shows anything.

    Validation: unseen sets in all renderings.

    Args:
        styles: styles per step.
        pictures: pictures per style and step.
        steps: steps per epoch.
        root: folder for the fetched archives and the rendered tables.
        size: side of the pictures in pixels.
    """

    sets = TRAIN_SETS | STYLE_SETS

    def __init__(
        self, styles: int = 32, pictures: int = 4, steps: int = 100, root: str = ".cache/npm", size: int = 64
    ) -> None:
        super().__init__(root, styles * pictures, size)
        self.styles, self.pictures, self.steps = styles, pictures, steps

    def setup(self, stage: str) -> None:
        """Read the tables and group the icons by set."""
        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        self.rows = [[i for i, name in enumerate(table.sets.tolist()) if name == one] for one in self.sets]

        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        pixels, images, labels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2), [], []
        for i, name in enumerate(TEST_SETS):
            rows = [j for j, other in enumerate(held_out.sets.tolist()) if other == name]
            for k, rendering in enumerate(RENDERINGS):
                some = random.Random(k).sample(rows, 12)
                images.append(rendering(augment.composite(pixels[some], torch.ones(()))) * 2 - 1)
                labels += [i * len(RENDERINGS) + k] * len(some)
        self.held_out = TensorDataset(torch.cat(images), torch.tensor(labels))

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn icons uint8 (B, 4, H, W) into pictures float (B, 3, H, W) in 0..1, before a style is laid on."""
        background = augment.random_background(len(rgba), rgba.shape[-1], white=0.8)
        images = augment.random_affine(augment.composite(rgba, background), (0.75, 1.3), 0.1, 0, p=0.5)
        return augment.random_flip(images)

    def collate(self, numbers: list[int]) -> list[torch.Tensor]:
        """Draw styles, and pictures of each; returns float (B, 3, H, W) in [-1, 1] and style labels (B,)."""
        images, labels = [], []
        for number in numbers:
            i, k = divmod(number, len(RENDERINGS))
            views = self.views(self.train[random.choices(self.rows[i], k=self.pictures)])
            images.append(RENDERINGS[k](views) * 2 - 1)
            labels += [number] * self.pictures
        return [torch.cat(images), torch.tensor(labels)]

    def train_dataloader(self) -> DataLoader:
        """Random styles, none twice in a step."""
        count = len(self.sets) * len(RENDERINGS)
        batches = [random.sample(range(count), self.styles) for _ in range(self.steps)]
        return DataLoader(range(count), batch_sampler=batches, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """Pictures of unseen sets in all renderings, and their style."""
        return DataLoader(self.held_out, len(self.held_out))
