"""CLIP skip, as kohya counts it: which of the text encoder's layers gives the text embeddings; 1: the last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stylelora.base.load import read_config
from stylelora.records import InputError


def check_clip_skip(base: Path, clip_skip: int) -> None:
    """Check that the text encoder has such a layer.

    Raises:
        InputError: if not.
    """
    layers = read_config(base, "text_encoder")["num_hidden_layers"]
    if not 1 <= clip_skip <= layers:
        raise InputError(
            f"clip_skip is {clip_skip}, but the text encoder of this base has {layers} layers; give 1 (the last layer) "
            f"to {layers}"
        )


def clip_skip_of(notes: Mapping[str, str]) -> int | None:
    """Return the CLIP skip that a LoRA was trained with, by the note that we and kohya write; None without it."""
    said = notes.get("ss_clip_skip", "")
    return 1 if said == "None" else int(said) if said.isdecimal() else None
