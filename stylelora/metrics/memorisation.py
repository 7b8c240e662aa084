"""Are generated pictures copies of training pictures? With 100 of them, an adapter can memorise them."""

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
    """Each generated picture's nearest training picture, against how near new pictures of the style are.

    Attributes:
        index: row of the nearest training picture, int64 (N,): pairs to look at.
        cosine: similarity to it, float64 (N,) in [-1, 1].
        line: similarity that only a few of the held-out pictures exceed.
        copied: whether the similarity is above the line, bool (N,); `mean_interval` takes it with prompts as groups.
        share: of generated pictures above the line, in [0, 1].
        expected: share to expect of new pictures of the same distribution.
    """

    index: Tensor
    cosine: Tensor
    line: float
    copied: Tensor
    share: float
    expected: float


def nearest(vectors: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Find the training vector of largest cosine to each vector.

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

    Nearness alone says little: pictures of one style are near each other. Held-out pictures of the same style, which
    nobody copied, say how near is usual. The principle is that of Meehan et al. 2020 ("A Non-Parametric Test to Detect
    Data-Copying"), here as a share, which a page can show picture by picture.

    The line is the order statistic number quantile * (H + 1) (Weibull's rule), which new pictures exceed in a share of
    1 - quantile also at small H; the usual linear rule would call 8 % of new pictures copies with 30 held out. Below
    1 / (1 - quantile) - 1 pictures (19 by default) no rule can do that: the line is the largest, `expected` is higher.

    Args:
        generated: vectors float (N, D).
        training: vectors float (M, D) of the pictures trained on.
        held_out: vectors float (H, D) of pictures of the same style not trained on, near-duplicates removed.
        quantile: share of held-out pictures below the line, in (0, 1).

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
