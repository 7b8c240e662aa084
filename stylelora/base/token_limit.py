"""Texts with more tokens than the text encoder reads."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from stylelora.texts import quoted

log = logging.getLogger(__name__)


def cut_off(tokenizer: Any, text: str) -> int:
    """Return how many tokens of a text are beyond those that the text encoder reads, so that they have no effect."""
    return max(0, len(tokenizer(text, verbose=False).input_ids) - tokenizer.model_max_length)


def cut_offs(tokenizer: Any, texts: Iterable[str]) -> str:
    """Return how many captions or prompts are too long, which is the first, and how much of it is cut off; or ""."""
    counts = {text: cut_off(tokenizer, text) for text in dict.fromkeys(texts)}
    long = {text: count for text, count in counts.items() if count}
    if not long:
        return ""
    first, count = next(iter(long.items()))
    return (
        f"{len(long)} of {len(counts)} captions and prompts have more than {tokenizer.model_max_length} tokens, and "
        f"what comes after has no effect: {count} tokens of the first, {quoted(first)}; shorten them"
    )


def say_cut_off(tokenizer: Any, texts: Iterable[str]) -> None:
    """Say once which captions or prompts are too long."""
    if said := cut_offs(tokenizer, texts):
        log.warning("%s", said)
