"""The looks that the embedded base learns by name: what a caption says of how something is drawn."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from stylelora.pretraining import renderings as r

#: look -> (rendering, how captions name it). None of them is one of the four embedded styles.
LOOKS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "mosaic": (r.mosaic, "mosaic"),
    "fine mosaic": (r.fine_mosaic, "fine mosaic"),
    "posterised": (r.posterised, "poster"),
    "sketched": (r.sketched, "pencil sketch"),
    "inked": (r.inked, "ink outline"),
    "washed": (r.washed, "pale wash"),
    "hatched": (r.hatched, "hatching"),
    "dotted": (r.dotted, "dot print"),
    "smeared": (r.smeared, "thick paint"),
    "grey": (r.grey, "grey"),
    "pastel": (r.pastel, "pastel"),
    "vivid": (r.vivid, "vivid"),
    "blurred": (r.blurred, "blurred"),
    "grainy": (r.grainy, "grainy"),
}
