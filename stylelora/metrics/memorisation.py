"""Memorisation: are generated pictures copies of training pictures? An adapter can memorise 100 of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from stylelora.metrics.kid import as_vectors
from stylelora.metrics.measure import Measure
from stylelora.records import InputError

MEMORISATION = Measure(
    "memorisation",
    "share of pictures nearer to a training picture than 95 % of held-out ones are; some 0.05 is usual",
    higher_is_better=False,
    floor="the same to expect of new pictures of the style that copy nothing",
)


@dataclass(frozen=True)
class Memorisation:
    """Nearest training picture of each generated one, compared with how near held-out pictures of the style come.

    Attributes:
        index: row of the nearest training picture, int64 (N,), for inspecting the pairs.
        cosine: similarity to it, float64 (N,) in [-1, 1].
        line: threshold: similarity that only a few of the held-out pictures exceed.
        copied: whether the similarity exceeds the threshold, bool (N,); for `mean_interval` with prompts as groups.
        share: share of generated pictures above the threshold, in [0, 1].
        expected: expected share for new pictures of the same distribution.
    """

    index: Tensor
    cosine: Tensor
    line: float
    copied: Tensor
    share: float
    expected: float


def nearest(vectors: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest training vector of each vector, by cosine.

    Args:
        vectors: float (N, D).
        training: float (M, D).

    Returns:
        index int64 (N,) into `training`, and cosine float64 (N,) in [-1, 1].

    Raises:
        InputError: as for `as_vectors`.
    """
    vectors, training = (F.normalize(rows, dim=1) for rows in as_vectors(vectors, training))
    cosine, index = (vectors @ training.T).max(1)
    return index, cosine.clamp(-1, 1)


def memorisation(generated: Tensor, training: Tensor, held_out: Tensor, quantile: float = 0.95) -> Memorisation:
    """Compare how near generated and held-out pictures come to the training pictures.

    Similarity alone says little, because pictures of one style are similar anyway. Held-out pictures of the same style,
    which are not copies, show how similar is usual. The principle is that of Meehan et al. 2020 ("A Non-Parametric Test
    to Detect Data-Copying"), here as a share, which a page can show picture by picture.

    The threshold is the order statistic number quantile * (H + 1) (Weibull's rule), which a share of 1 - quantile of
    new pictures exceeds also at small H; the usual linear rule would flag 8 % of new pictures with 30 held out. Below
    1 / (1 - quantile) - 1 pictures (19 by default) no rule can do that: the threshold is then the largest value, and
    `expected` is higher.

    Args:
        generated: vectors float (N, D).
        training: vectors float (M, D) of the pictures trained on.
        held_out: vectors float (H, D) of pictures of the same style not trained on, near-duplicates removed.
        quantile: share of held-out pictures below the threshold, in (0, 1).

    Raises:
        InputError: as for `as_vectors`, or a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile must lie between 0 and 1, not {quantile}.")
    index, cosine = nearest(generated, training)
    usual = nearest(held_out, training)[1]
    line = float(np.quantile(usual.numpy(), quantile, method="weibull"))
    copied = cosine > line
    expected = max(1 - quantile, 1 / (len(usual) + 1))
    return Memorisation(index, cosine, line, copied, copied.double().mean().item(), expected)
