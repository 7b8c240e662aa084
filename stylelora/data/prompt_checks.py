"""What is wrong or has no effect in prompts to sample, said before anything is encoded."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from stylelora.base.load import size_step
from stylelora.data.prompts import SamplePrompt
from stylelora.records import InputError

log = logging.getLogger(__name__)

#: Notations of other programs: how to find one, and what is drawn instead.
NOTATIONS = (
    (r"<(?:lora|lyco|hypernet):[^>]*>", "loads nothing and is read as text; remove it, and let `predict` draw with the "
     "LoRA (model.adapters)"),
    (r"(?<!\\)\([^()]*(?<!\\)\)", "is no weight but read as text, parentheses and all; write the words without them"),
    (r"(?<!\\)\[[^][]*(?<!\\)\]", "is no weight but read as text, brackets and all; write the words without them"),
    (r"\\[][()]", "is read as text, backslash and all; remove the backslash"),
    (r"\b(?:BREAK|AND)\b", "is read as a word and separates nothing; write a comma instead"),
    (r"\{[^{}]*\|[^{}]*\}|\b__\w+__\b", "is not replaced but read as text; write one prompt for each choice"),
)  # fmt: skip


def check_prompts(prompts: Sequence[SamplePrompt], base: Path, guidance_scales: Sequence[float]) -> None:
    """Check that a base can make the prompts' sizes, and warn of what in them has no effect.

    Args:
        prompts: prompts to sample, each with a negative prompt.
        base: folder or file of the base.
        guidance_scales: of prompts that have none of their own.

    Raises:
        InputError: as `check_sizes`.
    """
    check_sizes(prompts, base)
    for said in warnings_of(prompts, guidance_scales):
        log.warning(said)


def check_sizes(prompts: Sequence[SamplePrompt], base: Path) -> None:
    """Check that a base can make the prompts' sizes.

    Raises:
        InputError: if a side is no multiple of the base's step.
    """
    step = size_step(base)
    for one in prompts:
        for name, side in (("width", one.width), ("height", one.height)):
            if side is not None and side % step:
                below = max(step, side // step * step)
                raise InputError(
                    f"{one.where}: {name} {side} does not suit this base: it must be a multiple of {step}, such as "
                    f"{below} or {below + step}"
                )


def warnings_of(prompts: Sequence[SamplePrompt], guidance_scales: Sequence[float]) -> list[str]:
    """Return a sentence for each kind of thing in prompts that has no effect."""
    said = []
    for note in dict.fromkeys(note for one in prompts for note in one.notes):
        said.append(f"{_places([one for one in prompts if note in one.notes])}: {note}")
    for pattern, meaning in NOTATIONS:
        found = [(one, match[0]) for one in prompts if (match := _first(pattern, one))]
        if found:
            said.append(f"{_places([one for one, _ in found])}: {found[0][1]!r} {meaning}")
    idle = [
        one
        for one in prompts
        if one.negative_prompt and 1 in (guidance_scales if one.guidance_scale is None else [one.guidance_scale])
    ]
    if idle:
        said.append(
            f"{_places(idle)}: the negative prompt {idle[0].negative_prompt!r} has no effect at a guidance scale of 1; "
            "give a guidance scale above 1"
        )
    return said


def _first(pattern: str, one: SamplePrompt) -> re.Match | None:
    return re.search(pattern, one.prompt) or re.search(pattern, one.negative_prompt or "")


def _places(prompts: Sequence[SamplePrompt]) -> str:
    more = len(prompts) - 1
    return (prompts[0].where or f"prompt {prompts[0].prompt!r}") + f" and {more} more" * (more > 0)
