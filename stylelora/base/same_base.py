"""Was an adapter trained on the weights that it is used with? A name such as `mini` or a path does not tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

#: Note in a LoRA file: the hash of its base's UNet.
BASE_WEIGHTS = "base_weights"


def hash_of_weights(unet: nn.Module) -> str:
    """Hash the small ones of a base's weights (norms and biases), with or without adapters in the network.

    In bfloat16, so that the type of the rest does not count.

    Args:
        unet: the base's UNet.
    """
    import torch

    digest = hashlib.sha256()
    for name, value in unet.named_parameters():
        if value.dim() == 1 and "lora_" not in name:
            digest.update(name.replace(".base_layer.", ".").encode())  # PEFT's name for what an adapter wraps
            digest.update(value.detach().cpu().to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:12]


def doubt_of_base(name: str, notes: Mapping[str, str], here: str, base: str) -> str | None:
    """Return a warning if a file notes other weights of its base than these; None if not, or if it notes none.

    Args:
        name: name of the adapter.
        notes: metadata of its file.
        here: hash of the weights that it is used with, from `hash_of_weights`.
        base: their base, as it was given.
    """
    noted = notes.get(BASE_WEIGHTS, "an earlier one's" if notes.get("base") == "mini" else None)
    if noted in (None, here):
        return None
    return (
        f"{name} was trained on other weights than those of {base} (it notes {noted}, these are {here}): models "
        "fine-tuned from its own base usually do; with another, such as an earlier mini, train it again"
    )
