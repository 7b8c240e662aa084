"""A checkpoint in SD 1.5's layout with random weights, small enough to build in every test run; and uses of it."""

from pathlib import Path

import torch

# SD 1.5's UNet, except for the sizes; the tests compare its layer names with the real ones.
SD15_UNET = dict(
    in_channels=4,
    out_channels=4,
    sample_size=64,
    layers_per_block=2,
    block_out_channels=(320, 640, 1280, 1280),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=768,
    attention_head_dim=8,  # diffusers' old name for the number of heads
    norm_num_groups=32,
)
TINY_UNET = SD15_UNET | dict(
    sample_size=8, block_out_channels=(16, 32, 32, 32), cross_attention_dim=32, norm_num_groups=8
)
SMALLEST_UNET = TINY_UNET | dict(
    layers_per_block=1,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=2,
    norm_num_groups=4,
)
TINY_SD2_UNET = TINY_UNET | dict(attention_head_dim=(2, 4, 8, 8), use_linear_projection=True)


def build_tiny_sd(folder: Path, sd2: bool = False, unet: dict | None = None) -> Path:
    """Write the checkpoint: 64 px pictures, 8x8 latents, the same weights each time; or in the layout of SD 2.x."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from stylelora.pretraining.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["a watercolor painting of a red fox", "a cartoon of a small blue house"], 600)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**(unet or (TINY_SD2_UNET if sd2 else TINY_UNET)))
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=64,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                hidden_act="gelu" if sd2 else "quick_gelu",
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def predict(unet):
    """The UNet's output on one fixed input."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return unet(latents.to(unet.dtype), torch.tensor([10, 700]), text.to(unet.dtype)).sample


def training_batch(count=2):
    """A batch as a data module gives it, of random latents and texts."""
    drawn = torch.Generator().manual_seed(4)
    shape = (count, 4, 8, 8)
    return {
        "row": list(range(count)),
        "mean": torch.randn(shape, generator=drawn),
        "std": torch.rand(shape, generator=drawn),
        "text": torch.randn(count, 77, 32, generator=drawn),
        "empty_text": torch.zeros(1, 77, 32),
    }


def disturb(unet):
    """Move whatever is trainable, as training would: an untouched LoRA has no effect to compare."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
