"""Architectures of the embedded base: Stable Diffusion 1.5's classes at one-eighth scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPImageProcessor, CLIPTextModel

LATENT_CHANNELS = 24
VOCAB_SIZE = 2048


def mini_unet(channels: Sequence[int], text_size: int) -> UNet2DConditionModel:
    """Build the UNet for 8x8 latents: one block per level, cross-attention on every level.

    Args:
        channels: width per level.
        text_size: width of the text embeddings.
    """
    from diffusers import UNet2DConditionModel

    levels = len(channels)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=tuple(channels),
        layers_per_block=1,
        attention_head_dim=4,  # like SD 1.5's 8, this is the number of heads (a misnomer kept by diffusers)
        cross_attention_dim=text_size,
    )


def mini_text_encoder(size: int) -> CLIPTextModel:
    """Build the text encoder: CLIP's text transformer with two layers and 77 positions."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=size,
        intermediate_size=size * 4,
        num_hidden_layers=2,
        num_attention_heads=size // 32,
        projection_dim=size,
        max_position_embeddings=77,
        bos_token_id=VOCAB_SIZE - 2,
        eos_token_id=VOCAB_SIZE - 1,
        pad_token_id=VOCAB_SIZE - 1,
    )
    return CLIPTextModel(config)


def mini_scheduler() -> DPMSolverMultistepScheduler:
    """Build the scheduler with SD 1.5's noise schedule; eps-prediction (Lu et al. 2022, DPM-Solver++(2M))."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        steps_offset=1,
    )


def mini_image_processor() -> CLIPImageProcessor:
    """Build the image processor of scorer and style encoder: pictures of any size to 64 px in [-1, 1]."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size=64, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
    )
