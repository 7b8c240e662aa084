"""The scorer: a small CLIP, trained independently of the generator and its text encoder."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.pretraining.schedule import adamw_with_decay
from stylelora.files import new_folder
from stylelora.pretraining.augment import flattened
from stylelora.pretraining.networks import VOCAB_SIZE, mini_image_processor

TEACHER_SIZE = 1280  # EfficientNet-Lite0's pooled features


class MiniScorer(L.LightningModule):
    """Trains transformers' CLIPModel with a contrastive and a distillation loss on augmented icons.

    The contrastive loss is CLIP's (Radford et al. 2021, figure 3), except that all pictures with the same name are
    positives. The distillation loss is 1 - cosine between an ImageNet network's features and a linear layer on the
    pooled image vector (Beyer et al. 2022: student and teacher see the same view); a few thousand icons alone do not
    teach what an animal is.

    Args:
        hidden_size: width of both transformers.
        layers: depth of the vision transformer; the text transformer has 2.
        teacher_weight: weight of 1 - cosine to the teacher's features.
        patch_size: side of a patch in pixels; pictures are 64 px.
        lr: learning rate of the plateau.
        plateau: share of the steps before the rate falls.
        output: folder for the trained scorer.
    """

    def __init__(
        self,
        hidden_size: int = 192,
        layers: int = 4,
        teacher_weight: float = 10.0,
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
        self.to_teacher = torch.nn.Linear(hidden_size, TEACHER_SIZE)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss on `pixel_values` float (B, 3, 64, 64) in [-1, 1], `input_ids` int (B, T), `label` int (B,).

        `features`, float (B, 1280), are the teacher's, normalised to unit length.
        """
        del batch_idx
        pooled = self.clip.vision_model(pixel_values=batch["pixel_values"]).pooler_output
        images, texts = F.normalize(self.clip.visual_projection(pooled), dim=1), self.embed_texts(batch["input_ids"])
        same = (batch["label"][:, None] == batch["label"]).float()
        target = same / same.sum(1, keepdim=True)
        logits = self.clip.logit_scale.exp() * images @ texts.T
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        apart = 1 - F.cosine_similarity(self.to_teacher(pooled), batch["features"]).mean()
        self.log_dict({"train/contrast": contrast, "train/teacher": apart}, prog_bar=True)
        return contrast + self.hparams.teacher_weight * apart

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """Embed token ids (B, T) as unit vectors (B, D)."""
        return F.normalize(self.clip.text_projection(self.clip.text_model(input_ids=tokens).pooler_output), dim=1)

    def on_validation_epoch_start(self) -> None:
        """Embed the candidate names of validation."""
        self.names = self.embed_texts(self.trainer.datamodule.name_tokens.to(self.device))

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log top-1 accuracy of zero-shot naming on unseen icon sets."""
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
        with new_folder(Path(self.hparams.output), among_others=True) as output:
            for part in (self.clip, self.trainer.datamodule.tokenizer, mini_image_processor()):
                part.save_pretrained(output)


class MiniScorerNames(MiniScorer):
    """Second stage: the vision tower is frozen, and each name learns the mean image embedding of its concept.

    After the first stage, the mean image embedding of a concept classifies unseen icons better than its text embedding:
    the contrastive loss lets the text tower memorise the training pictures.

    Args:
        init_from: folder of the scorer of stage 1.
        lr: learning rate of the plateau.
        plateau: share of the steps before the rate falls.
        output: folder for the finished scorer.
    """

    def __init__(
        self, init_from: str, lr: float = 1.0e-3, plateau: float = 0.2, output: str = "runs/mini/base/scorer"
    ) -> None:
        super().__init__(lr=lr, plateau=plateau, output=output)
        from transformers import CLIPModel

        self.clip = CLIPModel.from_pretrained(init_from).train()
        for part in (self.clip.vision_model, self.clip.visual_projection, self.to_teacher):
            part.requires_grad_(False)

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Compute the mean embedding of every name's icons, unaugmented, on white."""
        data = self.trainer.datamodule
        label = torch.tensor([data.names[name] for name in data.icon_names])
        rows = []
        for part in data.train.split(128):
            images = flattened(part, torch.ones(())) * 2 - 1
            pooled = self.clip.vision_model(pixel_values=images).pooler_output
            rows.append(F.normalize(self.clip.visual_projection(pooled), dim=1))
        sums = torch.zeros(len(data.names), rows[0].shape[1]).index_add_(0, label, torch.cat(rows))
        self.means = F.normalize(sums, dim=1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss on `input_ids` int (B, T) and `label` int (B,): 1 - cosine to the mean image embedding."""
        del batch_idx
        loss = 1 - (self.embed_texts(batch["input_ids"]) * self.means[batch["label"]]).sum(1).mean()
        self.log("train/names", loss, prog_bar=True)
        return loss
