"""LoHa and LoKr: updates that are products of low-rank matrices, read as plain low-rank updates, which they are.

LoHa (Hyeon-Woo et al. 2022) multiplies two updates of rank r entry by entry, which gives rank r^2 at most; LoKr (Yeh et
al. 2024) is the Kronecker product of two matrices, whose factors are the products of their factors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stylelora.lora.check_file import check_alpha
from stylelora.lora.factors import Factors, Layer
from stylelora.records import InputError

# Layers with 3 x 3 kernels; the files hold kernels unrolled.
_WIDE = re.compile(r"(^|\.)conv_?(1|2|in|out)$|samplers\.0\.conv$")
_LOHA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_LOKR = {f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")}
MOST_NUMBERS = 2**28  # of a factor, 1 GiB
SD2_TEXT = 1024  # width of SD 2's text embeddings; SD 2 has linear proj_in and proj_out, SD 1 has convolutions


def is_product(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a layer's tensors are those of a LoHa or LoKr."""
    return any(name.startswith(("hada_", "lokr_")) for name in tensors)


def product(tensors: Mapping[str, Tensor], layer: str, name: str, source: str) -> Layer:
    """Return a LoHa or LoKr layer as a LoRA layer.

    Its scale is alpha / rank of the factors; 1 if there is no alpha, or no factor, as LyCORIS has it.

    Args:
        tensors: `hada_...` or `lokr_...` of one layer, and `alpha` where a file has it.
        layer: the layer's name here; it tells 3 x 3 convolutions.
        name: the layer's name in the file, for errors.
        source: the file; begins the error message.

    Raises:
        InputError: a tensor is missing, superfluous or of the wrong shape, or it is a Tucker decomposition.
    """
    if any(key.startswith(("hada_t", "lokr_t")) for key in tensors):
        raise InputError(f"{source} has a Tucker decomposition of a LoHa or LoKr in {name}; only LoCon's can be read.")
    loha = any(key.startswith("hada_") for key in tensors)
    kind = "LoHa" if loha else "LoKr"
    if strange := tensors.keys() - {"alpha"} - (_LOHA if loha else _LOKR):
        raise InputError(f"{source} holds {', '.join(sorted(strange))} of {name} beside a {kind}.")
    if flat := [key for key, one in tensors.items() if key != "alpha" and (one.ndim < 2 or not one.numel())]:
        raise InputError(f"{source} has {flat[0]} of shape {tuple(tensors[flat[0]].shape)} in {name}.")
    if "alpha" in tensors and tensors["alpha"].numel() != 1:
        raise InputError(f"{source} has more than one alpha in {name}.")
    tensors = {key: value.float() for key, value in tensors.items()}
    try:
        update, rank = _hadamard(tensors) if loha else _kronecker(tensors)
        width = update.down.shape[1]
        one = Layer.of(update, (width // 9, 3, 3) if _WIDE.search(layer) else (width,))
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{source} lacks a factor of {name}, or shapes do not fit ({error}).") from error
    alpha = check_alpha(tensors["alpha"].item(), f"{source} ({name})") if "alpha" in tensors else rank
    return replace(one, alpha=one.rank * (alpha / rank if rank else 1.0))


def with_kernels(layers: Mapping[str, Layer], tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Layer]:
    """Return layers in which a LoHa's or LoKr's 1 x 1 convolutions have the shape of one, which the files do not tell.

    Args:
        layers: layers of a file by name.
        tensors: the tensors of each, as `product` takes them.
    """
    texts = {layer.kernel[0] for name, layer in layers.items() if name.endswith(("attn2.to_k", "attn2.to_v"))}
    convolutions = ("conv_shortcut",) if SD2_TEXT in texts else ("conv_shortcut", "proj_in", "proj_out")
    made = dict(layers)
    for name, layer in layers.items():
        if is_product(tensors[name]) and name.endswith(convolutions) and layer.down.ndim == 2:
            made[name] = replace(layer, down=layer.down[:, :, None, None], up=layer.up[:, :, None, None])
    return made


def _hadamard(tensors: Mapping[str, Tensor]) -> tuple[Factors, int]:
    """(A1 B1) * (A2 B2) has rows A1[i] (x) A2[i] and columns B1[:, j] (x) B2[:, j]."""
    (a1, b1), (a2, b2) = ((tensors[f"hada_w{i}_a"].flatten(1), tensors[f"hada_w{i}_b"].flatten(1)) for i in (1, 2))
    rank = len(b1)
    if rank**2 >= min(len(a1), b1.shape[1]):
        return _dense((a1 @ b1) * (a2 @ b2)), rank
    up = torch.einsum("mr,ms->mrs", a1, a2).flatten(1)
    return Factors(up, torch.einsum("rn,sn->rsn", b1, b2).flatten(0, 1)), rank


def _kronecker(tensors: Mapping[str, Tensor]) -> tuple[Factors, int]:
    """(U1 D1) (x) (U2 D2) = (U1 (x) U2) (D1 (x) D2)."""
    (first, rank1), (second, rank2) = (_side(tensors, i) for i in (1, 2))
    sizes = [one.numel() * other.numel() for one, other in ((first.up, second.up), (first.down, second.down))]
    if max(sizes) > MOST_NUMBERS:
        raise RuntimeError(f"{max(sizes)} numbers, more than any layer has")
    return Factors(torch.kron(first.up, second.up), torch.kron(first.down, second.down)), rank1 or rank2 or 0


def _side(tensors: Mapping[str, Tensor], i: int) -> tuple[Factors, int]:
    """Return one matrix of a Kronecker product, and its rank if it is factorised, else 0."""
    if (whole := tensors.get(f"lokr_w{i}")) is not None:
        return _dense(whole.flatten(1)), 0
    up, down = tensors[f"lokr_w{i}_a"].flatten(1), tensors[f"lokr_w{i}_b"].flatten(1)
    return Factors(up, down), len(down)


def _dense(matrix: Tensor) -> Factors:
    if matrix.shape[0] < matrix.shape[1]:
        return Factors(torch.eye(len(matrix)), matrix)
    return Factors(matrix, torch.eye(matrix.shape[1]))
