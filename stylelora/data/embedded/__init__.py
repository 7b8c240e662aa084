"""Four small captioned picture sets, one per style, that come with the package.

Each folder holds pictures, `metadata.jsonl` (one line per picture: file_name, text, source) and `LICENSE.txt`.
Captions name the content only; the trigger that stands for the style is added when training. None of the pictures
is part of what the embedded generator was trained on; those of `watercolor`, however, are repainted from icons that
share their outlines with the shaded Fluent icons it has seen. `stylelora.pretraining.style_sets` redraws them.
"""

from pathlib import Path

#: Style -> the word that stands for it in prompts.
TRIGGERS = {"watercolor": "wcstyle", "cartoon": "ctstyle", "anime": "anistyle", "pixelart": "pixstyle"}
STYLES = tuple(TRIGGERS)
#: Resampling kernels of styles for which lanczos would be wrong.
INTERPOLATIONS = {"pixelart": "nearest"}


def folder(style: str) -> Path:
    """Folder of one style's pictures.

    Raises:
        ValueError: if there is no such style.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style '{style}'; the embedded styles are {', '.join(STYLES)}")
    return Path(__file__).parent / style
