"""The style encoder: embeds pictures by style, independent of content."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.pretraining.schedule import adamw_with_decay
from stylelora.files import new_folder
from stylelora.pretraining.networks import mini_image_processor


def contrast_of_styles(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al. 2020, eq. 2).

    Args:
        vectors: float (B, D), unit rows.
        labels: int (B,), at least two of each.
        temperature: divisor of the cosines.
    """
    own = torch.eye(len(labels), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.T / temperature).masked_fill(own, -torch.inf)
    same = (labels[:, None] == labels) & ~own
    return -logits.log_softmax(1)[same].mean()


class MiniStyleEncoder(L.LightningModule):
    """Trains transformers' CLIPVisionModelWithProjection to separate styles and ignore content.

    Like CSD (Somepalli et al. 2024, section 4), uses a supervised contrastive loss over styles; here labels are exact.

    Args:
        hidden_size: width of the transformer.
        layers: its depth.
        patch_size: side of a patch in pixels; pictures are 64 px.
        temperature: of the contrast.
        lr: learning rate of the plateau.
        plateau: share of the steps before the rate falls.
        output: folder for the trained encoder.
    """

    def __init__(
        self,
        hidden_size: int = 128,
        layers: int = 4,
        patch_size: int = 8,
        temperature: float = 0.1,
        lr: float = 1.0e-3,
        plateau: float = 0.3,
        output: str = "runs/mini/base/style_encoder",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                image_size=64, patch_size=patch_size, hidden_size=hidden_size, intermediate_size=hidden_size * 4,
                num_hidden_layers=layers, num_attention_heads=hidden_size // 32, projection_dim=64,
            )
        )  # fmt: skip

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Compute the loss on pictures, float (B, 3, 64, 64) in [-1, 1], and style labels, int (B,)."""
        del batch_idx
        images, labels = batch
        loss = contrast_of_styles(self.embed(images), labels, self.hparams.temperature)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def embed(self, images: Tensor) -> Tensor:
        """Embed pictures as unit vectors (B, 64)."""
        return F.normalize(self.encoder(pixel_values=images).image_embeds, dim=1)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log how often the nearest neighbour has the same style, on unseen icon sets."""
        del batch_idx
        images, labels = batch
        vectors = self.embed(images)
        nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1)
        self.log("val/nearest", (labels[nearest] == labels).float().mean(), prog_bar=True, batch_size=len(labels))

    def configure_optimizers(self) -> dict:
        """AdamW, linear decay."""
        return adamw_with_decay(self, self.hparams.lr, self.hparams.plateau, weight_decay=0.1)

    def on_fit_end(self) -> None:
        """Save the encoder with its image processor."""
        with new_folder(Path(self.hparams.output), among_others=True) as output:
            self.encoder.save_pretrained(output)
            mini_image_processor().save_pretrained(output)
