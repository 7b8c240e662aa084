"""Float32 precision on GPUs."""

from __future__ import annotations


def same_precision_everywhere() -> None:
    """Allow TF32 in convolutions only where matrix multiplications use it.

    PyTorch allows TF32 (10-bit mantissa) in cuDNN convolutions by default, but not in matrix multiplications. Here
    `torch.set_float32_matmul_precision` decides for both: with its default, "highest", float32 means float32.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
