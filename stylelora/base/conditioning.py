"""What the UNet is given beside x and t: texts as conditioning, and the one call of a UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """What a UNet predicts for, of B pictures. Bases that want more than texts get their tensors as fields here.

    Attributes:
        text: text encoder's last hidden state, float (B, T, D).
    """

    text: Tensor

    @classmethod
    def of_batch(cls, batch: Mapping[str, Tensor], prefix: str = "") -> Conditioning:
        """Return the conditioning of a data module's batch; prefix "empty_" or "content_" for that of other prompts."""
        return cls(batch[f"{prefix}text"])

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Join several along the batch."""
        return cls(torch.cat([part.text for part in parts]))

    def __len__(self) -> int:
        return len(self.text)

    def expand(self, count: int) -> Conditioning:
        """Repeat the conditioning of one picture for `count`; that of `count` pictures stays as it is."""
        return Conditioning(self.text.expand(count, -1, -1))

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        """Move or cast it, as `Tensor.to`."""
        return Conditioning(self.text.to(*args, **kwargs))

    def replaced(self, chosen: Tensor, other: Conditioning) -> Conditioning:
        """Return it with `other`, of one picture or of B, where `chosen`, bool (B,), is true."""
        return Conditioning(torch.where(chosen[:, None, None], other.text, self.text))


@torch.no_grad()
def encode_texts(tokenizer: Any, encoder: nn.Module, texts: Sequence[str]) -> Conditioning:
    """Return the conditioning for N texts, on the encoder's device; what is beyond T tokens is cut."""
    length = tokenizer.model_max_length
    padding = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    return Conditioning(encoder(tokenizer(list(texts), **padding).input_ids.to(encoder.device)).last_hidden_state)


def predict(unet: nn.Module, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    """Return what a UNet predicts, noise or velocity, like x (B, C, H, W). Every call of a UNet is this one.

    Args:
        unet: of diffusers, with or without adapters.
        x: noisy latents, float (B, C, H, W); cast to the dtype of the conditioning.
        t: timesteps, int (B,), or one for all, ().
        conditioning: of B pictures.
    """
    return unet(x.to(conditioning.text.dtype), t, encoder_hidden_states=conditioning.text).sample
