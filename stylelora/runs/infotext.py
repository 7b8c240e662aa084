"""A picture's settings as text, as AUTOMATIC1111's web UI writes them and image viewers and CivitAI read them."""

from __future__ import annotations

import json
import re

#: What begins a part of the text for readers, so that a prompt must not hold it.
_PARTS = re.compile(r"\b(Negative prompt|Steps|Template|Negative Template):")


def infotext(row: dict, width: int, height: int) -> str:
    """Return prompt, negative prompt and settings, a line each.

    Args:
        row: settings of the picture.
        width: in pixels.
        height: in pixels.
    """
    settings = {
        "Steps": row["num_inference_steps"],
        "Sampler": row["scheduler"],
        "CFG scale": row["guidance_scale"],
        "Seed": row["seed"],
        "Size": f"{width}x{height}",
        "Model": row["base"],
        "Blend": row["label"],
        "Method": row["method"],
        "Strength": f"{row['strength']:g}",
    }
    if late := row.get("starts"):
        settings["LoRA starts"] = " + ".join(f"{name} {start:g}" for name, start in late.items())
    lines = [_line(row["prompt"])]
    if row["negative_prompt"]:
        lines.append(f"Negative prompt: {_line(row['negative_prompt'])}")
    return "\n".join([*lines, ", ".join(f"{name}: {_quoted(value)}" for name, value in settings.items())])


def _line(text: str) -> str:
    """Return a prompt as one line that readers take for nothing else; the text encoder sees the same tokens."""
    return _PARTS.sub(r"\1 :", " ".join(text.split()))


def _quoted(value: object) -> str:
    """Quote a value with a comma, colon, quote or newline as JSON; a quote within as a number, for CivitAI ends there.

    CivitAI takes a quote for the end of a value, also after a backslash.
    """
    text = str(value)
    if not re.search(r'[,:"\n\r\\]', text) and text == text.strip():
        return text
    return '"' + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', "\\u0022") + '"'
