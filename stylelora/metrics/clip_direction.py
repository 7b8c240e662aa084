"""In which direction do pictures change, in words? Needs no reference pictures, but is noisy: a second opinion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stylelora.metrics.encoders import ImageTextEncoder
from stylelora.records import InputError


def text_change(encoder: ImageTextEncoder, styled: Sequence[str], plain: Sequence[str]) -> Tensor:
    """Return d_k = E_T(styled) - E_T(plain), float32 (B, D).

    Args:
        encoder: the same as for the pictures.
        styled: a text for each picture, such as "a watercolor painting of a cat".
        plain: the same without the style, such as "a photo of a cat".

    Raises:
        InputError: not as many of the one as of the other.
    """
    if isinstance(styled, str) or isinstance(plain, str) or len(styled) != len(plain):
        raise InputError("Each text with a style needs one without it.")
    return encoder.encode_texts(styled) - encoder.encode_texts(plain)


def direction_weights(change: Tensor, directions: Sequence[Tensor]) -> np.ndarray:
    """Nonnegative least squares (Lawson & Hanson 1974) of each picture's change: d_I ~ sum_k beta_k d_k, beta >= 0.

    Unlike one cosine for each style, the weights take directions together, so what two styles' texts have in common
    is not counted for both. Compare them between conditions only: pictures and texts differ in scale.

    Args:
        change: d_I = E_I(x) - E_I(x_base) of pictures and the base's of the same prompts and seeds, float (B, D).
        directions: `text_change` of each of K styles, float (B, D).

    Returns:
        beta, float64 (B, K), >= 0.

    Raises:
        InputError: no directions, some of another shape than the change, or numbers that are not finite.
    """
    from scipy.optimize import nnls

    if not directions or any(direction.shape != change.shape for direction in directions):
        raise InputError("Each style needs one direction for each picture's change.")
    target = change.cpu().double().numpy()  # in this order: not every device has float64
    columns = torch.stack(list(directions), -1).cpu().double().numpy()
    if not (np.isfinite(target).all() and np.isfinite(columns).all()):
        raise InputError("Some changes are not finite; look at what made them.")
    rows = [nnls(matrix, row)[0] for matrix, row in zip(columns, target, strict=True)]
    return np.array(rows).reshape(len(target), len(directions))
