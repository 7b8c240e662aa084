"""A random CLIP with the layout of the embedded scorer."""

from pathlib import Path

import torch


def build_tiny_clip(folder: Path) -> Path:
    """Write the model, its tokenizer and its image processor: 32 px pictures, the same weights each time."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from stylelora.pretraining.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["a cat on a mat", "a boat on a lake"] * 3, vocab_size=600)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = len(tokenizer) - 1
    config = CLIPConfig(
        projection_dim=16,
        text_config={**size, "vocab_size": len(tokenizer), "bos_token_id": end - 1, "eos_token_id": end,
                     "pad_token_id": end, "max_position_embeddings": 77},
        vision_config={**size, "image_size": 32, "patch_size": 8},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = CLIPModel(config)
        for parameter in model.parameters():  # CLIP's initial weights are so small that all vectors look alike
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=32, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
    ).save_pretrained(folder)
    return folder
