"""The scorer: a small CLIP of its own, trained apart from the generator and its text encoder."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.mini.schedule import adamw_with_decay
from stylelora.base.mini_networks import VOCAB_SIZE


class MiniScorer(L.LightningModule):
    """Trains transformers' CLIPModel by contrast, on icons in random views.

    The loss is CLIP's (Radford et al. 2021, figure 3), except that all pictures of one name count as matches.

    Args:
        hidden_size: width of both transformers.
        layers: depth of the vision transformer; the text transformer has 2.
        patch_size: side of a patch in pixels; pictures are 64 px.
        lr: learning rate of the plateau.
        plateau: share of the steps before the rate falls.
        output: folder for the trained scorer.
    """

    def __init__(
        self,
        hidden_size: int = 128,
        layers: int = 4,
        patch_size: int = 8,
        lr: float = 1.0e-3,
        plateau: float = 0.3,
        output: str = "runs/mini/base/scorer",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        from transformers import CLIPConfig, CLIPModel

        config = CLIPConfig(
            projection_dim=128,
            text_config={
                "vocab_size": VOCAB_SIZE, "hidden_size": hidden_size, "intermediate_size": hidden_size * 4,
                "num_hidden_layers": 2, "num_attention_heads": hidden_size // 32, "max_position_embeddings": 77,
                "bos_token_id": VOCAB_SIZE - 2, "eos_token_id": VOCAB_SIZE - 1, "pad_token_id": VOCAB_SIZE - 1,
            },
            vision_config={
                "image_size": 64, "patch_size": patch_size, "hidden_size": hidden_size,
                "intermediate_size": hidden_size * 4, "num_hidden_layers": layers,
                "num_attention_heads": hidden_size // 32,
            },
        )  # fmt: skip
        self.clip = CLIPModel(config)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss on `pixel_values` float (B, 3, 64, 64) in [-1, 1], `input_ids` int (B, T), `label` int (B,)."""
        del batch_idx
        out = self.clip(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"])
        same = (batch["label"][:, None] == batch["label"]).float()
        target = same / same.sum(1, keepdim=True)
        logits = out.logits_per_image
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Embed the names that validation chooses among."""
        tokens = self.trainer.datamodule.name_tokens.to(self.device)
        out = self.clip.text_model(input_ids=tokens)
        self.names = F.normalize(self.clip.text_projection(out.pooler_output), dim=-1)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log how often the nearest name is the right one, on icon sets never trained on."""
        del batch_idx
        pixels, label = batch
        images = self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels).pooler_output)
        right = (images @ self.names.T).argmax(1) == label
        self.log("val/top1", right.float().mean(), prog_bar=True, batch_size=len(label))

    def configure_optimizers(self) -> dict:
        """AdamW, linear decay."""
        return adamw_with_decay(self, self.hparams.lr, self.hparams.plateau, weight_decay=0.1)

    def on_fit_end(self) -> None:
        """Save the scorer with its tokenizer and image processor."""
        from transformers import CLIPImageProcessor

        output = Path(self.hparams.output)
        self.clip.save_pretrained(output)
        self.trainer.datamodule.tokenizer.save_pretrained(output)
        CLIPImageProcessor(
            size={"shortest_edge": 64}, crop_size=64, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
        ).save_pretrained(output)
