"""Pictures to train on, and how public scripts read them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

Encode = Callable[[Tensor], Tensor]


def make_pictures(folder: Path, count: int, side: int) -> Path:
    """Write JPEGs of blurred noise with a caption each, unless they are there.

    Args:
        folder: their folder.
        count: how many.
        side: width and height in pixels.
    """
    listing = folder / "metadata.jsonl"
    if listing.is_file() and len(listing.read_text().splitlines()) == count:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        drawn = np.random.default_rng(i)
        coarse = Image.fromarray(drawn.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = (smooth + drawn.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=92)
        rows.append(json.dumps({"file_name": f"{i:05}.jpg", "text": f"a thing with number {i} on a table"}) + "\n")
    listing.write_text("".join(rows))  # written last: its presence means that all pictures exist
    return folder


class Captioned(Dataset):
    """Pictures as both scripts read them: decoded, resized, cropped at random, normalised; captions as tokens."""

    def __init__(self, root: Path, tokenizer: Any, resolution: int) -> None:
        self.root, self.tokenizer, self.resolution = root, tokenizer, resolution
        self.rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return `pixels`, float (3, H, W) in -1..1, and `tokens`, int (T,)."""
        return {"pixels": self.pixels(index), "tokens": self.tokens(index)}

    def pixels(self, index: int) -> Tensor:
        """Return a picture, float (3, H, W) in -1..1."""
        image = Image.open(self.root / self.rows[index]["file_name"]).convert("RGB")
        scale = self.resolution / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        left, top = (random.randint(0, side - self.resolution) for side in image.size)
        image = image.crop((left, top, left + self.resolution, top + self.resolution))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(127.5).sub(1)

    def tokens(self, index: int) -> Tensor:
        """Return the tokens of a caption, int (T,)."""
        length = self.tokenizer.model_max_length
        padding = {"max_length": length, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self.tokenizer([self.rows[index]["text"]], **padding).input_ids[0]


class Encoded(Dataset):
    """What a loop needs of each picture, encoded once and kept in memory, or as it is.

    Args:
        captioned: the pictures.
        encode: from pictures to latents; None: pictures are given.
        embed: from tokens to embeddings; None: tokens are given.
    """

    def __init__(self, captioned: Captioned, encode: Encode | None, embed: Encode | None) -> None:
        self.captioned = captioned
        numbers = range(len(captioned))
        self.latents = [encode(captioned.pixels(i)[None]).float().cpu()[0] for i in numbers] if encode else []
        self.texts = [embed(captioned.tokens(i)[None]).float().cpu()[0] for i in numbers] if embed else []

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.captioned)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return `latents` or `pixels`, and `text` or `tokens`."""
        found = {"latents": self.latents[index]} if self.latents else {"pixels": self.captioned.pixels(index)}
        return found | ({"text": self.texts[index]} if self.texts else {"tokens": self.captioned.tokens(index)})
