"""How many bytes training a LoRA of Stable Diffusion 1.5 needs, counted without a GPU: `python -m benchmarks.memory`.

One training step runs on fake tensors, which have shapes and no content, and every allocation is counted until it is
freed: weights, what backpropagation keeps and computes, gradients, the optimiser. Not counted is what CUDA needs for
itself and as working space, and the allocator's fragments.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stylelora.base.conditioning import Conditioning, predict
from stylelora.lora.inject import adapter_parameters, inject_lora
from stylelora.precision import BaseDType, cast_frozen

GIB = 2**30
AUTOENCODER, SCORER = 83.7e6 * 4, 151.3e6 * 4  # bytes of SD 1.5's AutoencoderKL and of CLIP ViT-B/32, in float32


class Peak(TorchDispatchMode):
    """Adds up the storages that are alive; `most` is the peak in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count what it has allocated."""
        out = func(*args, **(kwargs or {}))
        self.count(out)
        return out

    def count(self, tensors: Any) -> None:
        """Count the storages of tensors, each until it is freed."""
        for tensor in tree_leaves(tensors):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


@dataclass(frozen=True)
class Settings:
    """What decides about memory.

    Attributes:
        batch: pictures per step.
        resolution: in pixels.
        dtype: of the frozen base.
        mixed: whether arithmetic is in bfloat16 (`trainer.precision bf16-mixed`).
        checkpointing: whether activations are computed again.
        rank: of the adapter.
        targets: layers that get it.
    """

    batch: int
    resolution: int
    dtype: BaseDType
    mixed: bool
    checkpointing: bool
    rank: int
    targets: tuple[str, ...]

    @classmethod
    def of(cls, config: dict) -> Settings:
        """Take them from the settings of a run."""
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        return cls(
            batch=data["batch_size"],
            resolution=data["resolution"],
            dtype=model.get("base_dtype", "float32"),
            mixed="mixed" in config["trainer"].get("precision", ""),
            checkpointing=model.get("gradient_checkpointing", False),
            rank=model.get("rank", 16),
            targets=tuple(model.get("target_modules", ("to_q", "to_k", "to_v", "to_out.0"))),
        )


def build_unet(settings: Settings) -> tuple[UNet2DConditionModel, FakeTensorMode]:
    """Return SD 1.5's UNet with an adapter, of fake tensors, and their mode; PEFT can only build it on `meta`."""
    blocks = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            cross_attention_dim=768,
            down_block_types=blocks,
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )
    inject_lora(unet.requires_grad_(False), settings.rank, 16.0, 0.0, settings.targets, seed=0)
    cast_frozen(unet, settings.dtype)
    if settings.checkpointing:
        unet.enable_gradient_checkpointing()
    with FakeTensorMode() as mode:
        for module in unet.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    fake = torch.empty(weight.shape, dtype=weight.dtype)
                    module._parameters[name] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
    return unet.train(), mode


def as_on_cuda(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a normalisation that autocast computes in float32, as it does on CUDA and not on a CPU."""

    def norm(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*(one.float() if isinstance(one, Tensor) else one for one in args), **kwargs)

    return norm


@contextmanager
def autocast_as_on_cuda() -> Iterator[None]:
    """Let autocast on a CPU treat normalisations as on CUDA."""
    with (
        patch.object(F, "group_norm", as_on_cuda(F.group_norm)),
        patch.object(F, "layer_norm", as_on_cuda(F.layer_norm)),
    ):
        yield


def peak_bytes(settings: Settings) -> int:
    """Return the most bytes that one training step has in memory, with UNet, adapter and AdamW."""
    unet, mode = build_unet(settings)
    moments = sum(one.numel() for one in adapter_parameters(unet)) * 2 * 4  # AdamW's two, in float32
    side = settings.resolution // 8
    with mode:
        latents, text = torch.empty(settings.batch, 4, side, side), torch.empty(settings.batch, 77, 768)
        times = torch.zeros(settings.batch)
        with Peak() as peak:
            peak.count([*unet.parameters()])
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.mixed):
                out = predict(unet, latents, times, Conditioning(text))
            (out.float() - latents).square().mean().backward()
    return peak.most + moments


def decoder_bytes(pictures: int, resolution: int = 512) -> int:
    """Return the bytes of SD 1.5's autoencoder while it decodes, in float32."""
    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    with FakeTensorMode(), torch.no_grad(), Peak() as peak:
        channels = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
        vae = AutoencoderKL(down_block_types=blocks[0], up_block_types=blocks[1], **channels)
        vae.decode(torch.empty(pictures, 4, resolution // 8, resolution // 8))
    return peak.most


def total_bytes(settings: Settings) -> float:
    """Return the bytes of a step, and of the autoencoder and the scorer, which stay from the first samples on."""
    with autocast_as_on_cuda():
        return peak_bytes(settings) + AUTOENCODER + SCORER


def main() -> None:
    """Print what each config needs, and drawing samples."""
    for file in sys.argv[1:] or map(str, sorted(Path("configs/train/sd15").glob("*.yaml"))):
        total = total_bytes(Settings.of(yaml.safe_load(Path(file).read_text())))
        print(
            f"{file}: {total / GIB:.1f} GiB, {(total - AUTOENCODER - SCORER) / GIB:.2f} of them in a step", flush=True
        )
    for pictures in (1, 2):
        print(f"decoding {pictures} of 512 px at once: {decoder_bytes(pictures) / GIB:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
