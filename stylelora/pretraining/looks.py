"""The looks that the embedded base learns by name, and how to render them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from stylelora.pretraining import renderings as r

#: Name of a look in captions -> rendering function. None of them is one of the four embedded styles.
LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "mosaic": r.mosaic,
    "fine mosaic": r.fine_mosaic,
    "posterised": r.posterised,
    "sketched": r.sketched,
    "inked": r.inked,
    "washed": r.washed,
    "hatched": r.hatched,
    "dotted": r.dotted,
    "smeared": r.smeared,
    "black and white": r.grey,
    "pastel": r.pastel,
    "vivid": r.vivid,
    "blurred": r.blurred,
    "grainy": r.grainy,
}


def drawn_in(images: Tensor, looks: Sequence[str | None]) -> Tensor:
    """Render each picture, float (B, 3, H, W) in 0..1, in its look; None leaves it unchanged."""
    drawn = images.clone()
    for look in dict.fromkeys(looks):
        rows = [row for row, other in enumerate(looks) if other == look]
        if look is not None:
            drawn[rows] = LOOKS[look](images[rows])
    return drawn
