"""A LoRA of the text encoder, trained beside the UNet's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from stylelora.base.conditioning import Conditioning, embed_texts
from stylelora.base.load import load_text_encoder, load_tokenizer
from stylelora.lora.inject import adapted_modules, inject_lora
from stylelora.lora.names import TEXT_ENCODER, text_name
from stylelora.lora.options import LoraOptions
from stylelora.records import InputError
from stylelora.seeds import seed_of


@dataclass(frozen=True)
class TextEncoderLoRA:
    """Options of the text encoder's LoRA.

    Args:
        rank: rank; 0: the text encoder is not trained, and captions are encoded only once.
        alpha: the update is multiplied by alpha / rank; default: the rank.
        learning_rate: its learning rate; half of the UNet's is usual; default: the UNet's.
        target_modules: its layers that get a LoRA, as for the UNet; q_proj, k_proj, v_proj, out_proj, fc1 or fc2.
    """

    rank: int = 0
    alpha: float | None = None
    learning_rate: float | None = None
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj"])

    def check(self) -> None:
        """Check that options are within range, and that none is set in vain.

        Raises:
            InputError: if not.
        """
        if self.rank < 0:
            raise InputError(f"text_encoder.rank is {self.rank}; give at least 1, or 0 to train the UNet alone")
        for name in ("alpha", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"text_encoder.{name} is {value}; it must be a number above 0, or null")
            if value is not None and not self.rank:
                raise InputError(f"text_encoder.{name} is {value}, but its rank is 0: it is not trained; give a rank")


class TrainedTextEncoder(nn.Module):
    """The base's text encoder with a trainable LoRA.

    Layers that clip_skip leaves out are gone: nothing would train them.

    Args:
        base: folder or file of the base model.
        options: its options, of a rank above 0.
        lora: options that it shares with the UNet's LoRA; patterns name the UNet's layers, and are left out here.
        dropout: dropout on the LoRA's inputs.
        clip_skip: as of `encode_texts`.
        seed: seed of the LoRA's initial values.
    """

    def __init__(
        self, base: Path, options: TextEncoderLoRA, lora: LoraOptions, dropout: float, clip_skip: int, seed: int
    ) -> None:
        super().__init__()
        self.tokenizer, self.model = load_tokenizer(base), load_text_encoder(base)
        layers = self.model.encoder.layers
        self.model.encoder.layers = layers[: len(layers) + 1 - clip_skip]
        targets, seed = options.target_modules, seed_of("text_encoder", seed)
        inject_lora(self.model, options.rank, options.alpha, dropout, targets, seed, lora.plain(), "text encoder")
        self.model.train()

    def forward(self, texts: Sequence[str]) -> Conditioning:
        """Encode texts, with gradients."""
        return embed_texts(self.tokenizer, self.model, texts)

    def of_batch(self, batch: Mapping[str, Any], prefix: str = "") -> Conditioning:
        """Encode the texts of a data module's batch; see `Conditioning.of_batch`."""
        name = {"": "caption" if "caption" in batch else "prompt", "content_": "content"}.get(prefix, f"{prefix}prompt")
        return self([""] if prefix == "empty_" else batch[name])


def trained_text_encoder(
    base: Path, options: TextEncoderLoRA, lora: LoraOptions, dropout: float, clip_skip: int, seed: int
) -> TrainedTextEncoder | None:
    """Return a `TrainedTextEncoder`, whose arguments these are; None if its rank is 0."""
    return TrainedTextEncoder(base, options, lora, dropout, clip_skip, seed) if options.rank else None


def named_adapters(unet: nn.Module, text_encoder: TrainedTextEncoder | None) -> dict[str, nn.Module]:
    """Return the layers that carry an adapter, by their names in files."""
    text = {} if text_encoder is None else adapted_modules(text_encoder.model)
    return adapted_modules(unet) | {f"{TEXT_ENCODER}{text_name(name)}": module for name, module in text.items()}
