"""Captioning with BLIP (Li et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image

from stylelora.data.captions import collapse_repeats
from stylelora.records import InputError


class BlipCaptioner:
    """Captions pictures with a frozen BlipForConditionalGeneration, float32, using beam search.

    Args:
        path_or_id: hub id or folder.
        device: device such as "cpu" or "cuda".
        batch_size: pictures per forward pass.
        beams: number of beams.
        max_new_tokens: maximum caption length in tokens.

    Raises:
        InputError: if the network cannot be loaded.
    """

    def __init__(
        self,
        path_or_id: str = "Salesforce/blip-image-captioning-base",
        device: str = "cpu",
        batch_size: int = 8,
        beams: int = 3,
        max_new_tokens: int = 40,
    ) -> None:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        try:
            with torch.random.fork_rng(devices=[]):  # constructors draw initial weights
                self.model, report = BlipForConditionalGeneration.from_pretrained(
                    path_or_id, use_safetensors=True, dtype=torch.float32, output_loading_info=True
                )
            self.processor = BlipProcessor.from_pretrained(path_or_id)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"BLIP {path_or_id!r} cannot be loaded; connect to the network once, or give blip a folder that holds "
                "a BlipForConditionalGeneration in safetensors with its processor"
            ) from error
        if report["missing_keys"]:
            raise InputError(
                f"BLIP {path_or_id!r} lacks {len(report['missing_keys'])} of its weights; give a BLIP for captioning"
            )
        self.model.eval().requires_grad_(False).to(device)
        self.device, self.batch_size = device, batch_size
        # forbid repeated trigrams: BLIP tends to "bald bald bald"
        self.search = {"num_beams": beams, "max_new_tokens": max_new_tokens, "no_repeat_ngram_size": 3}

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> list[str]:
        """Caption RGB pictures; repeated phrases are collapsed."""
        captions = []
        for start in range(0, len(images), self.batch_size):
            inputs = self.processor(images=list(images[start : start + self.batch_size]), return_tensors="pt")
            tokens = self.model.generate(pixel_values=inputs.pixel_values.to(self.device), **self.search)
            captions += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [collapse_repeats(caption.strip()) for caption in captions]
