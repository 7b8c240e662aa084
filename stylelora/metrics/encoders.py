"""Frozen networks that turn pictures and texts into comparable vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from PIL.Image import Image, fromarray
from torch import Tensor

from stylelora.base.load import MINI
from stylelora.records import InputError

MINI_SCORER = MINI / "scorer"
CHUNK = 64  # pictures or texts per forward pass: bounds memory, changes no value


class ImageTextEncoder(Protocol):
    """What the metrics need of a network: unit vectors of pictures and texts in one space.

    Attributes:
        name: states which network it is; metrics carry it in their names, since their values depend on it.
    """

    name: str

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return unit vectors float32 (B, D) of pictures, uint8 (B, 3, H, W) or a list of PIL images."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors float32 (B, D) of texts."""


class ClipEncoder:
    """A frozen CLIP (Radford et al. 2021) in float32, with the tokenizer and image processor it was trained with.

    Stable Diffusion 1.5 reads its prompts with the text encoder of CLIP ViT-L/14; a score from another CLIP, such as
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", is independent of the generator.

    Attributes:
        name: "mini", the hub id, or the folder's own name.
        model: the network; no parameter requires grad.

    Args:
        path_or_id: "mini" (embedded; 64 px), a folder with a CLIPModel in safetensors, or a hub id.
        device: where the network runs; vectors always come back on the CPU.

    Raises:
        InputError: the network cannot be had, or is not a whole CLIP with its own tokenizer.
    """

    def __init__(self, path_or_id: str, device: torch.device | str = "cpu") -> None:
        source = str(MINI_SCORER) if path_or_id == "mini" else path_or_id
        self.name = Path(source).resolve().name if source == path_or_id and Path(source).is_dir() else path_or_id
        self.device = torch.device(device)
        self.model, self.tokenizer, self.processor = load_clip(source, self.name)
        self.model.to(self.device)
        self.max_tokens = self.model.config.text_config.max_position_embeddings
        self._reported: set[str] = set()

    @torch.no_grad()
    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Encode pictures.

        Args:
            images: uint8 (B, 3, H, W), or PIL images (converted to RGB) of any sizes.

        Returns:
            float32 (B, D) on the CPU, rows of length 1.

        Raises:
            InputError: the pictures are of another type, such as floats, whose range cannot be known.
        """
        pictures = as_pil(images)
        rows = [torch.empty(0, self.model.config.projection_dim)]
        for start in range(0, len(pictures), CHUNK):
            pixels = self.processor(pictures[start : start + CHUNK], return_tensors="pt").pixel_values
            rows.append(self._unit(self.model.get_image_features, pixel_values=pixels))
        return torch.cat(rows)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; one too long for the network is cut before its end token, with a warning (once per text).

        Args:
            texts: any number, of any length.

        Returns:
            float32 (B, D) on the CPU, rows of length 1.
        """
        rows = [torch.empty(0, self.model.config.projection_dim)]
        for start in range(0, len(texts), CHUNK):
            some = list(texts[start : start + CHUNK])
            self._report_cuts(some)
            tokens = self.tokenizer(
                some, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            )
            rows.append(
                self._unit(
                    self.model.get_text_features, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
                )
            )
        return torch.cat(rows)

    def _unit(self, features: Callable[..., Any], **inputs: Tensor) -> Tensor:
        """Run one of the model's two towers in float32 whatever autocast surrounds it, and normalise."""
        with torch.autocast(self.device.type, enabled=False):
            out = features(**{name: value.to(self.device) for name, value in inputs.items()})
        # transformers 5 wraps the projected vector in an object, transformers 4 returned it bare
        out = out if isinstance(out, Tensor) else out.pooler_output
        return F.normalize(out.float(), dim=-1).cpu()

    def _report_cuts(self, texts: list[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._reported]
        if not new:
            return
        for text, ids in zip(new, self.tokenizer(new, verbose=False).input_ids, strict=True):
            if len(ids) > self.max_tokens:
                self._reported.add(text)
                warnings.warn(
                    f"{self.name} reads {self.max_tokens} tokens, so the end of this text of {len(ids)} tokens is not "
                    f"scored: {text}",
                    stacklevel=4,
                )


def as_pil(images: Tensor | Sequence[Image]) -> list[Image]:
    """Return pictures as RGB PIL images, refusing what could be read in two ways.

    Args:
        images: uint8 (B, 3, H, W), or a sequence of PIL images.

    Raises:
        InputError: anything else.
    """
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"Pictures must be uint8 (B, 3, H, W) or PIL images, not {images.dtype} {tuple(images.shape)}: "
                "scale to 0..255 and round first."
            )
        return [fromarray(picture) for picture in images.permute(0, 2, 3, 1).cpu().numpy()]
    for picture in images:
        if not isinstance(picture, Image):
            raise InputError(f"Pictures must be uint8 (B, 3, H, W) or PIL images, not a list of {type(picture)}.")
    return [picture.convert("RGB") for picture in images]


def load_clip(source: str, name: str) -> tuple[Any, Any, Any]:
    """Load a CLIPModel (frozen, eval, float32), its tokenizer and its image processor; global RNG is left alone.

    Args:
        source: folder or hub id.
        name: how messages call it.

    Raises:
        InputError: as for `ClipEncoder`.
    """
    from transformers import CLIPModel, CLIPTokenizer

    try:  # Pillow's resize, also where torchvision is installed: scores must not depend on what else is
        from transformers import CLIPImageProcessorPil as Processor
    except ImportError:
        from transformers import CLIPImageProcessor as Processor

    try:
        with torch.random.fork_rng(devices=[]):  # layers that the file lacks draw random numbers
            model, report = CLIPModel.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        tokenizer = CLIPTokenizer.from_pretrained(source)
        processor = Processor.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Scorer {name!r} cannot be loaded: give 'mini', a folder with a CLIPModel in safetensors, its tokenizer "
            "and its image processor, or the id of such a repository that is reachable or already downloaded."
        ) from error
    # transformers fills both gaps in silence: with random layers, and with a vocabulary of two tokens
    text = model.config.text_config
    end = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id  # 2: first CLIP configs, see CLIPModel
    if report["missing_keys"] or tokenizer.eos_token_id != end:
        lack = "its own tokenizer" if not report["missing_keys"] else f"{len(report['missing_keys'])} of its weights"
        raise InputError(f"Scorer {name!r} lacks {lack}: give a folder or hub id that holds a whole CLIPModel.")
    return model.eval().requires_grad_(False), tokenizer, processor
