"""Texts as the UNet is given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def embed_texts(tokenizer: Any, encoder: nn.Module, texts: Sequence[str]) -> Tensor:
    """Return the text encoder's last hidden state, float (N, T, D), on its device; what is beyond T tokens is cut."""
    length = tokenizer.model_max_length
    padding = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    return encoder(tokenizer(list(texts), **padding).input_ids.to(encoder.device)).last_hidden_state
