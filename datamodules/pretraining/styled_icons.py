"""Pictures of many styles for the style encoder."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules.pretraining.icons import Icons
from stylelora.base.load import load_vae
from stylelora.pretraining import augment
from stylelora.pretraining.icon_table import STYLE_SETS, TEST_SETS, TRAIN_SETS, build_icon_table
from stylelora.pretraining.renderings import RENDERINGS, rendered


class StyledIcons(Icons):
    """Icons of many sets in many renderings; a style is a pair of both, and shows anything.

    A step takes a few sets, and the same icons of a set in a few renderings, so that content does not separate styles.
    Half of the pictures pass through the base's VAE: its blur is on every sample of the base and must not count as
    style. Validation: unseen sets in all renderings.

    Args:
        base: folder of the base whose autoencoder blurs.
        sets_per_step: icon sets in a step.
        renderings: renderings of each in a step.
        pictures: icons of each in a step.
        decoded: icons of each set that the autoencoder is run on, once and in every rendering.
        steps: steps per epoch.
        root: folder for the fetched archives and the rendered tables.
        size: side of the pictures in pixels.
    """

    sets = TRAIN_SETS | STYLE_SETS

    def __init__(
        self,
        base: str = "runs/mini/base",
        sets_per_step: int = 8,
        renderings: int = 4,
        pictures: int = 4,
        decoded: int = 16,
        steps: int = 100,
        root: str = ".cache/npm",
        size: int = 64,
    ) -> None:
        super().__init__(root, sets_per_step * renderings * pictures, size)
        self.base, self.sets_per_step, self.renderings = Path(base), sets_per_step, renderings
        self.pictures, self.count, self.steps = pictures, decoded, steps

    def setup(self, stage: str) -> None:
        """Read the tables, group the icons by set, and run the autoencoder on some of each style."""
        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        self.rows = [[i for i, name in enumerate(table.sets.tolist()) if name == one] for one in self.sets]
        self.decoded = self.decode()

        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        pixels, images, labels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2), [], []
        for i, name in enumerate(TEST_SETS):
            rows = [j for j, other in enumerate(held_out.sets.tolist()) if other == name]
            for k in range(len(RENDERINGS)):
                some = random.Random(k).sample(rows, 12)
                images.append(rendered(augment.flattened(pixels[some], torch.ones(())), k) * 2 - 1)
                labels += [i * len(RENDERINGS) + k] * len(some)
        self.held_out = TensorDataset(torch.cat(images), torch.tensor(labels))

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn icons uint8 (B, 4, H, W) into pictures float (B, 3, H, W) in 0..1, before a style is laid on."""
        background = augment.random_background(len(rgba), rgba.shape[-1], white=0.8)
        images = augment.random_affine(augment.flattened(rgba, background), (0.75, 1.3), 0.1, 0, p=0.5)
        return augment.random_flip(images)

    @torch.no_grad()
    def decode(self) -> list[torch.Tensor]:
        """Return `count` pictures of each style after the autoencoder, uint8 (count, 3, H, W); of a set all alike."""
        vae, decoded = load_vae(self.base), []
        for rows in self.rows:
            icons = self.train[random.choices(rows, k=self.count)]
            for k in range(len(RENDERINGS)):
                latents = vae.encode(rendered(self.views(icons), k) * 2 - 1).latent_dist.mean
                decoded.append(((vae.decode(latents).sample.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
        return decoded

    def collate(self, sets: list[int]) -> list[torch.Tensor]:
        """Draw icons of each set and renderings of them; float (B, 3, H, W) in [-1, 1] and style labels (B,)."""
        images, labels, half = [], [], self.pictures // 2
        for i in sets:
            icons = self.train[random.choices(self.rows[i], k=half)]
            old = random.sample(range(self.count), self.pictures - half)
            for k in random.sample(range(len(RENDERINGS)), self.renderings):
                style = i * len(RENDERINGS) + k
                images += [rendered(self.views(icons), k) * 2 - 1, self.decoded[style][old] / 127.5 - 1]
                labels += [style] * self.pictures
        return [torch.cat(images), torch.tensor(labels)]

    def train_dataloader(self) -> DataLoader:
        """Random sets, none twice in a step."""
        batches = [random.sample(range(len(self.sets)), self.sets_per_step) for _ in range(self.steps)]
        return DataLoader(range(len(self.sets)), batch_sampler=batches, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """Pictures of unseen sets in all renderings, and their style."""
        return DataLoader(self.held_out, len(self.held_out))
