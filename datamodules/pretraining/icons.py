"""Pictures for the autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from stylelora.pretraining import augment
from stylelora.pretraining.icon_table import TEST_SETS, TRAIN_SETS, build_icon_table


class Icons(L.LightningDataModule):
    """Pictures for the autoencoder: every icon, in random views; validation on icon sets never trained on.

    Args:
        root: folder for the fetched archives and the rendered table.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    sets = TRAIN_SETS

    def __init__(self, root: str = ".cache/npm", batch_size: int = 16, size: int = 64) -> None:
        super().__init__()
        self.root, self.batch_size, self.size = Path(root), batch_size, size

    def prepare_data(self) -> None:
        """Fetch and render the icon sets (about 2 minutes, once)."""
        build_icon_table(self.sets, self.root, self.size)
        build_icon_table(TEST_SETS, self.root, self.size)

    def setup(self, stage: str) -> None:
        """Read the tables."""
        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        pick = torch.randperm(len(held_out.slugs), generator=torch.Generator().manual_seed(0))[:256]
        pixels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2)[pick]
        self.held_out = augment.flattened(pixels, torch.ones(())) * 2 - 1

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn icons uint8 (B, 4, H, W) into random training pictures float (B, 3, H, W) in [-1, 1]."""
        rgba = augment.random_outline(rgba, 0.3)
        images = augment.flattened(
            rgba, augment.random_background(len(rgba), rgba.shape[-1], white=0.5, device=rgba.device)
        )
        images = augment.random_affine(images, zoom=(0.5, 2.0), shift=0.3, degrees=10, p=0.3)
        images = augment.random_texture(augment.random_colour(augment.random_flip(images), 0.5), 0.3)
        return images * 2 - 1

    def train_dataloader(self) -> DataLoader:
        """Endless epochs over the icons, shuffled."""
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Draw the views of a training batch where the model is: for a GPU, one process could not draw enough."""
        del dataloader_idx
        return self.views(batch) if isinstance(batch, torch.Tensor) and batch.dtype == torch.uint8 else batch

    def val_dataloader(self) -> DataLoader:
        """256 pictures of unseen icon sets, float (B, 3, H, W) in [-1, 1]."""
        return DataLoader(self.held_out, 32)
