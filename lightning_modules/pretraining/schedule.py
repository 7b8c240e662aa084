"""Learning rate schedule of all stages: short warm-up, plateau, linear decay to zero."""

from __future__ import annotations

import lightning.pytorch as L
import torch


def adamw_with_decay(
    module: L.LightningModule,
    lr: float,
    plateau: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
) -> dict:
    """Build AdamW with a per-step schedule over the whole run.

    Args:
        module: module to train; only parameters that require grad are optimised.
        lr: learning rate of the plateau.
        plateau: share of all steps before the decay starts.
        weight_decay: decoupled weight decay.
        betas: decay rates of AdamW's first and second moments.

    Returns:
        the dict for `configure_optimizers`.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = "mixed" not in str(module.trainer.precision)  # else Lightning clips no gradients
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=betas, fused=fused)
    total = module.trainer.estimated_stepping_batches
    if total == float("inf"):
        raise ValueError("the learning rate needs an end: set trainer.max_steps or trainer.max_epochs")
    start = plateau * total

    def factor(step: int) -> float:
        return min((step + 1) / 100, 1.0, (total - step) / max(1.0, total - start))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
