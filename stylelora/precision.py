"""What a number of 32 bits is on a GPU."""

from __future__ import annotations


def same_precision_everywhere() -> None:
    """Let convolutions use TF32 only where matrix products do.

    PyTorch allows TF32 (10 bits of mantissa) in cuDNN's convolutions by default, but not in matrix products. Here
    `torch.set_float32_matmul_precision` decides for both: with its default, "highest", float32 means float32.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
