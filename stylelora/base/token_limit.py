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


def say_cut_off(tokenizer: Any, texts: Iterable[str]) -> None:
    """Say once how many of the captions or prompts are too long, which is the first, and how much of it is cut off."""
    counts = {text: cut_off(tokenizer, text) for text in dict.fromkeys(texts)}
    long = {text: count for text, count in counts.items() if count}
    if long:
        first, count = next(iter(long.items()))
        log.warning(
            "%d of %d captions and prompts have more than %d tokens, and what comes after has no effect: %d tokens of "
            "the first, %s; shorten them",
            *(len(long), len(counts), tokenizer.model_max_length, count, quoted(first)),
        )
