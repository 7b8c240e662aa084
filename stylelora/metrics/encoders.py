"""Frozen encoders of pictures and texts."""

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


class ImageEncoder(Protocol):
    """Interface that the metrics require of an image encoder.

    Attributes:
        name: identifies the network; it is part of the metrics' names, since their values depend on it.
    """

    name: str

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return vectors float32 (B, D) on the CPU of pictures, uint8 (B, 3, H, W) or a list of PIL images.

        They have length 1, except for networks whose features are compared unnormalised (`Inception`,
        `EfficientNetLite0`).
        """


class ImageTextEncoder(ImageEncoder, Protocol):
    """An encoder of pictures and texts as unit vectors in one space."""

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
        InputError: the network cannot be loaded, or is not a complete CLIP with its own tokenizer.
    """

    def __init__(self, path_or_id: str, device: torch.device | str = "cpu") -> None:
        source = str(MINI_SCORER) if path_or_id == "mini" else path_or_id
        self.name = name_of(path_or_id)
        self.device = torch.device(device)
        self.model, self.tokenizer, self.processor = load_clip(source, self.name)
        self.model.to(self.device)
        self.max_tokens = self.model.config.text_config.max_position_embeddings
        self._reported: set[str] = set()

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Encode pictures.

        Args:
            images: uint8 (B, 3, H, W), or PIL images (converted to RGB) of any sizes.

        Returns:
            float32 (B, D) on the CPU, rows of length 1.

        Raises:
            InputError: the pictures are of another type, such as floats, whose range cannot be known.
        """
        width = self.model.config.projection_dim
        return unit_vectors(images, self.processor, self.model.get_image_features, width, self.device)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts; one that is too long is truncated before its end token, with a warning (once per text).

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
            ids, mask = tokens.input_ids, tokens.attention_mask
            rows.append(_unit(self.model.get_text_features, self.device, input_ids=ids, attention_mask=mask))
        return torch.cat(rows)

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
    """Return pictures as RGB PIL images; anything of ambiguous range or layout is refused.

    Args:
        images: uint8 (B, 3, H, W), or a sequence of PIL images.

    Raises:
        InputError: anything else.
    """
    if isinstance(images, Tensor):
        return [fromarray(picture) for picture in as_uint8(images).permute(0, 2, 3, 1).cpu().numpy()]
    for picture in images:
        if not isinstance(picture, Image):
            raise InputError(f"Pictures must be uint8 (B, 3, H, W) or PIL images, not a list of {type(picture)}.")
    return [picture.convert("RGB") for picture in images]


def as_uint8(images: Tensor) -> Tensor:
    """Return pictures uint8 (B, 3, H, W) unchanged; any other tensor is refused.

    Raises:
        InputError: they are of another type, such as floats, whose range cannot be known, or of another shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"Pictures must be uint8 (B, 3, H, W) or PIL images, not {images.dtype} {tuple(images.shape)}: "
            "scale to 0..255 and round first."
        )
    return images


def name_of(path_or_id: str) -> str:
    """Return the network's name in metrics: a folder's own name, or the hub id."""
    return Path(path_or_id).resolve().name if path_or_id != "mini" and Path(path_or_id).is_dir() else path_or_id


def unit_vectors(
    images: Tensor | Sequence[Image],
    processor: Callable[..., Any],
    features: Callable[..., Any],
    width: int,
    device: torch.device,
) -> Tensor:
    """Encode pictures with a processor and a network, in chunks.

    Args:
        images: uint8 (B, 3, H, W), or PIL images of any sizes.
        processor: of transformers; makes `pixel_values` of PIL images.
        features: from `pixel_values` to float (B, D), or to an output with these as `pooler_output`.
        width: D, needed if there are no pictures.
        device: where the network is.

    Returns:
        float32 (B, D) on the CPU, rows of length 1.

    Raises:
        InputError: the pictures are of another type, such as floats, whose range cannot be known.
    """
    pictures = as_pil(images)
    rows = [torch.empty(0, width)]
    for start in range(0, len(pictures), CHUNK):
        pixels = processor(pictures[start : start + CHUNK], return_tensors="pt").pixel_values
        rows.append(_unit(features, device, pixel_values=pixels))
    return torch.cat(rows)


@torch.no_grad()
def _unit(features: Callable[..., Any], device: torch.device, **inputs: Tensor) -> Tensor:
    """Run a network in float32, even inside autocast, and normalise its output."""
    with torch.autocast(device.type, enabled=False):
        out = features(**{name: value.to(device) for name, value in inputs.items()})
    # transformers 5 wraps CLIP's projected vector in an object, transformers 4 returned it bare
    out = out if isinstance(out, Tensor) else out.pooler_output
    return F.normalize(out.float(), dim=-1).cpu()


def load_frozen(kind: Any, source: str, what: str) -> Any:
    """Load a transformers model from safetensors: frozen, in eval mode, float32; the global RNG is unchanged.

    Args:
        kind: its class, or an auto class.
        source: folder or hub id.
        what: its name in messages, such as "Scorer 'mini'".

    Raises:
        InputError: some of its weights are missing; transformers would silently initialise them at random.
        OSError, ValueError, RuntimeError, SafetensorError: it cannot be read; the caller decides what to do instead.
    """
    with torch.random.fork_rng(devices=[]):  # layers missing from the file are initialised at random
        model, report = kind.from_pretrained(
            source, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    if report["missing_keys"]:
        count = len(report["missing_keys"])
        raise InputError(f"{what} lacks {count} of its weights: give a folder or hub id that holds all of it.")
    return model.eval().requires_grad_(False)


def load_clip(source: str, name: str) -> tuple[Any, Any, Any]:
    """Load a CLIPModel (frozen, eval, float32), its tokenizer and image processor; the global RNG is unchanged.

    Args:
        source: folder or hub id.
        name: its name in messages.

    Raises:
        InputError: as for `ClipEncoder`.
    """
    from safetensors import SafetensorError
    from transformers import CLIPImageProcessorPil as Processor  # Pillow's resize, torchvision installed or not
    from transformers import CLIPModel, CLIPTokenizer

    try:
        model = load_frozen(CLIPModel, source, f"Scorer {name!r}")
        tokenizer = CLIPTokenizer.from_pretrained(source)
        processor = Processor.from_pretrained(source)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"Scorer {name!r} cannot be loaded: give 'mini', a folder with a CLIPModel in safetensors, its tokenizer "
            "and its image processor, or the id of such a repository that is reachable or already downloaded. One that "
            "has only pytorch_model.bin: convert it with CLIPModel.from_pretrained(ID).save_pretrained(FOLDER). "
            "To train without this score: --clip_score.scorer null."
        ) from error
    # without its files, the tokenizer silently has a vocabulary of two tokens
    text = model.config.text_config
    end = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id  # 2: first CLIP configs, see CLIPModel
    if tokenizer.eos_token_id != end:
        raise InputError(
            f"Scorer {name!r} lacks its own tokenizer: give a folder or hub id that holds a whole CLIPModel."
        )
    return model, tokenizer, processor
