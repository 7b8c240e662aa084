"""Both-score: do pictures show two styles at once, and more so than controls that do not blend?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.attainment import as_rows
from stylelora.metrics.measure import Measure
from stylelora.metrics.statistics import share_interval, tail_of, unit_of
from stylelora.records import Estimate, InputError

BOTH_SCORE = Measure(
    "both_score", "mean over pictures of the smaller of both attainments: a picture must show both styles"
)
BOTH_SCORE_OF_BASE = Measure(
    "both_score_of_base", "both-score of the base's pictures, on the same scales: what a blend has to beat, too"
)
BOTH_SCORE_OF_FIRST = Measure("both_score_of_first", "both-score of the first style's adapter alone")
BOTH_SCORE_OF_SECOND = Measure("both_score_of_second", "both-score of the second style's adapter alone")
BOTH_SCORE_OF_PIXEL_AVERAGE = Measure(
    "both_score_of_pixel_average",
    "both-score of mixing the two adapters' pictures pixel by pixel, which is no blend",
)
BOTH_SCORE_OF_CUT = Measure(
    "both_score_of_cut", "both-score of one adapter's picture cut and set beside the other's, which is no blend"
)
BOTH_SCORE_OF_WORDS = Measure(
    "both_score_of_words", "both-score of the base with the styles named in the prompt: what adapters have to beat"
)
BOTH_ABOVE_PIXEL_AVERAGE = Measure("both_above_pixel_average", "both-score minus that of mixing pixels; exploratory")
COIN_FLIP = Measure(
    "coin_flip", "both-score of tossing a coin between the two adapters alone: what a blend has to beat"
)
BOTH_ABOVE_COIN_FLIP = Measure("both_above_coin_flip", "both-score minus the coin's, primary endpoint of a blend")
BOTH_RATE = Measure(
    "both_rate",
    "share of pictures that show more of each style than 95 % of the other adapter's pictures do",
)


def both_scores(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return how much each picture shows of both styles: min(a_A, a_B).

    Average after taking the minimum: a coin flip between the two adapters has good mean attainments, but no picture
    that shows both styles. Compare with `coin_flip`.

    Args:
        first: attainment of style A by each picture (N,).
        second: attainment of style B by the same pictures (N,).

    Returns:
        float64 (N,).

    Raises:
        InputError: no attainments, some that are not finite, or rows of different lengths.
    """
    return np.minimum(*as_rows(first, second))


def coin_flip(on_first: ArrayLike, on_second: ArrayLike, share: float = 0.5) -> np.ndarray:
    """Return the expected both-score of a coin flip between the two single adapters: what any blend has to beat.

    Computed exactly, without random draws: pi_A min(a_A, a_B)(x_A) + pi_B min(a_A, a_B)(x_B) per prompt and seed.

    Args:
        on_first: `both_scores` of the pictures of style A's adapter alone (N,).
        on_second: the same for style B's adapter, same prompts and seeds, (N,).
        share: pi_A, in [0, 1]; pi_B is the rest.

    Returns:
        float64 (N,).

    Raises:
        InputError: a share beyond its range, or rows as for `both_scores`.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must lie between 0 and 1, not {share}.")
    on_first, on_second = as_rows(on_first, on_second)
    return share * on_first + (1 - share) * on_second


def both_intervals(
    blend: np.ndarray,
    alone: tuple[np.ndarray, np.ndarray],
    base: np.ndarray,
    prompts: Sequence[Hashable],
    share: float,
    others: Mapping[str, np.ndarray] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return the mean both-scores of a blend and of its controls, and their differences, with intervals.

    Both scales are recomputed in each resample of prompts, so the intervals include their error. A resample in which an
    adapter alone is not nearer to its style than the base counts as -inf for the lower end and inf for the upper.

    Args:
        blend: similarities of its pictures to style A and to B, (N, 2).
        alone: the same for A's adapter alone, and for B's.
        base: the same for the base.
        prompts: of each picture (N,).
        share: pi_A, of the coin.
        others: similarities of other pictures of the same prompts and seeds, by name, (N, 2) each.
        level: coverage of the intervals.
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Returns:
        `blend`, `coin_flip`, `first`, `second` (either adapter alone), `base` and the others; and the blend's minus the
        coin's and the others', `above_coin_flip` and so on.
    """
    unit = unit_of(prompts, len(blend))
    units = int(unit.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(units, [1 / units] * units, resamples)
    weights = np.vstack([np.ones(units, int), drawn])[:, unit].astype(float)  # the data themselves first
    weights /= weights.sum(1, keepdims=True)
    low = weights @ base
    span = np.stack([weights @ alone[0][:, 0], weights @ alone[1][:, 1]], 1) - low
    lost = (span <= 0).any(1)
    span[lost] = 1
    rows = {"blend": blend, "first": alone[0], "second": alone[1], "base": base} | dict(others or {})
    scores = {name: (weights * ((row - low[:, None]) / span[:, None]).min(2)).sum(1) for name, row in rows.items()}
    scores["coin_flip"] = share * scores["first"] + (1 - share) * scores["second"]
    scores |= {f"above_{name}": scores["blend"] - scores[name] for name in ("coin_flip", *(others or {}))}
    tail = tail_of(level, units)
    found = {}
    for name, values in scores.items():
        below = np.quantile(np.where(lost, -np.inf, values)[1:], tail, method="lower")
        above = np.quantile(np.where(lost, np.inf, values)[1:], 1 - tail, method="higher")
        found[name] = Estimate(float(values[0]), float(below), float(above), units)
    return found


def both_rate(
    first: ArrayLike,
    second: ArrayLike,
    first_on_other: ArrayLike,
    second_on_other: ArrayLike,
    prompts: Sequence[Hashable],
    quantile: float = 0.95,
) -> Estimate:
    """Return the share of pictures that show both styles: P(a_A > q_A and a_B > q_B).

    q_A is the 95th percentile of a_A over pictures of B's adapter alone, so 5 % of pictures without style A exceed it.

    Args:
        first: attainment of style A by each picture (N,).
        second: attainment of style B by the same pictures (N,).
        first_on_other: attainment of A by pictures of B's adapter alone (M,).
        second_on_other: attainment of B by pictures of A's adapter alone (L,).
        prompts: of each picture (N,).
        quantile: of these that a picture must exceed, in [0, 1].

    Raises:
        InputError: a quantile beyond its range, or rows as for `both_scores`.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile must lie between 0 and 1, not {quantile}.")
    first, second = as_rows(first, second)
    (first_on_other,), (second_on_other,) = as_rows(first_on_other), as_rows(second_on_other)
    both = (first > np.quantile(first_on_other, quantile)) & (second > np.quantile(second_on_other, quantile))
    return share_interval(both, prompts)
