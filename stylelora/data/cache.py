"""Latents and text embeddings, computed once and kept on disk.

So the autoencoder and the text encoder are not in memory while an adapter trains. A file's name is the hash of
everything that decides its content, so it is never stale: changing a picture, a caption, the base or the resolution
gives another name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylelora.base.load import fingerprint, load_text_encoder, load_tokenizer, load_vae
from stylelora.data.images import fit_square, open_picture, to_tensor
from stylelora.records import Picture

log = logging.getLogger(__name__)


def cached(cache: Path, kind: str, key: object, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what is stored under a key, computing and storing it if it is not there or cannot be read.

    Args:
        cache: folder of the cache.
        kind: first part of the file's name, for people.
        key: anything JSON can write; its hash is the second part.
        compute: makes the tensors.
    """
    path = cache / f"{kind}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]}.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError:
            log.warning("%s is damaged and is computed again", path)
    tensors = compute()
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
    return tensors


def encode_pictures(
    pictures: Sequence[Picture], folder: Path, resolution: int, kernel: str, cache: Path, device: torch.device | str
) -> dict[str, Tensor]:
    """Return `mean` and `std` of each picture's latent, float32 (N, C, h, w), not yet scaled by `scaling_factor`.

    Args:
        pictures: what to encode.
        folder: base model.
        resolution: side in pixels that pictures are brought to.
        kernel: resampling kernel, one of `images.KERNELS`.
        cache: folder of the cache.
        device: where the autoencoder runs.
    """

    @torch.no_grad()
    def compute() -> dict[str, Tensor]:
        vae = load_vae(folder).to(device)
        means, stds = [], []
        step = max(1, 2**21 // resolution**2)  # 8 pictures of 512 px at once
        for start in range(0, len(pictures), step):
            images = [fit_square(open_picture(p.path), resolution, kernel) for p in pictures[start : start + step]]
            pixels = torch.stack([to_tensor(image) for image in images]).to(device).float() / 127.5 - 1
            posterior = vae.encode(pixels).latent_dist
            means.append(posterior.mean.cpu())
            stds.append(posterior.std.cpu())
        return {"mean": torch.cat(means), "std": torch.cat(stds)}

    key = [fingerprint(folder, "vae"), resolution, kernel, [picture.sha256 for picture in pictures]]
    return cached(cache, "latents", key, compute)


def encode_texts(texts: Sequence[str], folder: Path, cache: Path, device: torch.device | str) -> Tensor:
    """Return the text encoder's last hidden state for each text, float32 (N, T, D).

    Texts longer than the encoder's context are cut, and a warning names them.

    Args:
        texts: full captions or prompts.
        folder: base model.
        cache: folder of the cache.
        device: where the text encoder runs.
    """
    tokenizer = load_tokenizer(folder)
    length = tokenizer.model_max_length
    for text in dict.fromkeys(texts):
        count = len(tokenizer(text).input_ids)
        if count > length:
            log.warning("caption has %d tokens, only the first %d count: %r", count, length, text)

    @torch.no_grad()
    def compute() -> dict[str, Tensor]:
        encoder = load_text_encoder(folder).to(device)
        batches = [texts[start : start + 32] for start in range(0, len(texts), 32)]
        tokens = [
            tokenizer(list(b), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
            for b in batches
        ]
        return {"text": torch.cat([encoder(ids.to(device)).last_hidden_state.cpu() for ids in tokens])}

    key = [fingerprint(folder, "text_encoder"), fingerprint(folder, "tokenizer"), list(texts)]
    return cached(cache, "texts", key, compute)["text"]
