"""Text conditioning of the UNet, and the single place where the UNet is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of a batch of B images. Bases that need more than text embeddings add their tensors as fields.

    Attributes:
        text: output of the text encoder, float (B, T, D).
    """

    text: Tensor

    @classmethod
    def of_batch(cls, batch: Mapping[str, Tensor], prefix: str = "") -> Conditioning:
        """Take the conditioning from a data module's batch; prefix "empty_" or "content_" selects other prompts."""
        return cls(batch[f"{prefix}text"])

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate along the batch dimension."""
        return cls(torch.cat([part.text for part in parts]))

    def __len__(self) -> int:
        return len(self.text)

    def expand(self, count: int) -> Conditioning:
        """Expand a batch of one to `count`; a batch of `count` is returned unchanged."""
        return Conditioning(self.text.expand(count, -1, -1))

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        """Move or cast the tensors, like `Tensor.to`."""
        return Conditioning(self.text.to(*args, **kwargs))

    def replaced(self, chosen: Tensor, other: Conditioning) -> Conditioning:
        """Replace the rows where `chosen`, bool (B,), is true with those of `other`, a batch of 1 or B."""
        return Conditioning(torch.where(chosen[:, None, None], other.text, self.text))


def embed_texts(tokenizer: Any, encoder: nn.Module, texts: Sequence[str], clip_skip: int = 1) -> Conditioning:
    """Encode N texts on the encoder's device, with gradients; texts are truncated to T tokens.

    Args:
        tokenizer: the base's.
        encoder: the base's text encoder.
        texts: the N texts.
        clip_skip: the layer that is taken, counted from the end as kohya counts; 1: the last, 2: the one before. The
            encoder's final normalisation follows in any case.
    """
    length = tokenizer.model_max_length
    padding = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    tokens = tokenizer(list(texts), **padding).input_ids.to(encoder.device)
    if clip_skip == 1:
        return Conditioning(encoder(tokens).last_hidden_state)
    layer = encoder(tokens, output_hidden_states=True).hidden_states[-clip_skip]
    return Conditioning(encoder.final_layer_norm(layer))


@torch.no_grad()
def encode_texts(tokenizer: Any, encoder: nn.Module, texts: Sequence[str], clip_skip: int = 1) -> Conditioning:
    """Return `embed_texts` without gradients."""
    return embed_texts(tokenizer, encoder, texts, clip_skip)


def predict(unet: nn.Module, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    """Run the UNet and return its prediction (noise or velocity), same shape as x. Every UNet call goes through here.

    Args:
        unet: diffusers UNet, with or without adapters.
        x: noisy latents, float (B, C, H, W); cast to the UNet's dtype.
        t: timesteps, int (B,), or a scalar () shared by the batch.
        conditioning: conditioning of the B images; cast likewise.

    A UNet in half precision computes in it, as in diffusers' pipelines, also inside autocast, which would cast the
    inputs and weights of each normalisation to float32 and what follows back: a quarter of all operations.
    """
    dtype = next((one.dtype for one in unet.parameters()), x.dtype)  # `unet.dtype` walks through all modules
    half = dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(x.device.type, enabled=False) if half else nullcontext():
        return unet(x.to(dtype), t, encoder_hidden_states=conditioning.text.to(dtype)).sample
