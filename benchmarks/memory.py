"""How many bytes training a LoRA of Stable Diffusion 1.5 needs, counted without a GPU: `python -m benchmarks.memory`.

The UNet is built on the `meta` device, where tensors have shapes and no content, and one forward pass is traced.
Counted are weights, optimiser and what backpropagation keeps, in float32; not CUDA's own memory and working space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from stylelora.lora.inject import adapter_parameters, inject_lora

GIB = 2**30
BYTES = 4  # of a float32
AUTOENCODER, SCORER = 83.7e6, 151.3e6  # parameters of SD 1.5's AutoencoderKL and of CLIP ViT-B/32
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


class Attention(torch.autograd.Function):
    """Memory of a fused attention kernel for the backward pass: its inputs, output and one number per query.

    Only the forward pass is traced, so there is no backward.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Save the tensors that a kernel saves; on `meta` there is nothing to compute."""
        out, log_sum = torch.empty_like(q), q.new_empty(q.shape[:3])
        ctx.save_for_backward(q, k, v, out, log_sum)
        return out


def build_unet(rank: int) -> UNet2DConditionModel:
    """Return SD 1.5's UNet with an adapter, on the `meta` device."""
    blocks = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            cross_attention_dim=768,
            down_block_types=blocks,
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )
    inject_lora(unet, rank, float(rank), 0.0, TARGETS, seed=0)
    return unet.to("meta")


def kept_bytes(unet: UNet2DConditionModel, resolution: int, batch: int) -> int:
    """Return the bytes that a forward pass saves for backpropagation, each storage once, without weights."""
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor  # kept alive, so that no other storage reuses its address
        return tensor

    side = resolution // 8
    latents, text = torch.empty(batch, 4, side, side, device="meta"), torch.empty(batch, 77, 768, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(latents, torch.zeros(batch, device="meta"), text).sample.square().mean()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> None:
    """Print the parts, and the total for several batch sizes."""
    F.scaled_dot_product_attention = lambda q, k, v, **_: Attention.apply(q, k, v)
    unet = build_unet(rank=16)
    adapter = sum(parameter.numel() for parameter in adapter_parameters(unet))
    frozen = sum(parameter.numel() for parameter in unet.parameters()) - adapter
    parts = {
        "UNet": frozen * BYTES,
        "adapter, gradient, two moments": adapter * BYTES * 4,
        "autoencoder": AUTOENCODER * BYTES,
        "scorer": SCORER * BYTES,
    }
    for name, size in parts.items():
        print(f"{name}: {size / GIB:.2f} GiB")
    rest = sum(parts.values())
    for batch in (1, 2, 4, 8):
        kept = kept_bytes(unet, 512, batch)
        print(f"batch {batch} at 512 px: {kept / GIB:.2f} GiB kept, {(kept + rest) / GIB:.1f} GiB in all")


if __name__ == "__main__":
    main()
