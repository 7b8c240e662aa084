"""The curve of the learning rate."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L


class LearningRate(L.Callback):
    """Logs `train/lr`, the learning rate of each step; of several groups of parameters `train/lr/NAME`.

    Names are `unet` and `text_encoder`, with LoRA+ `unet_A`, `unet_B` and so on. Where an optimiser multiplies it by an
    estimate of its own (Prodigy's d), it is the product.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates of the step that follows."""
        del batch, batch_idx
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for index, group in enumerate(groups):
            name = "train/lr" if len(groups) == 1 else f"train/lr/{group.get('name', index)}"
            if group.get("lr") is not None:  # Adafactor may have none
                pl_module.log(name, float(group["lr"]) * float(group.get("d", 1.0)), batch_size=1)
