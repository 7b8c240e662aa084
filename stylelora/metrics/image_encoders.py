"""Image-only encoders: DINOv2 for content, CSD for style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from stylelora.metrics.efficientnet import EfficientNetLite0
from stylelora.metrics.encoders import ClipEncoder, ImageEncoder, load_frozen, name_of, unit_vectors
from stylelora.metrics.style import StyleEncoder
from stylelora.records import InputError

DINOV2 = ("dinov2", "dinov2_with_registers")
LAYERS = {  # of one block: OpenAI's names, transformers' names
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


class DinoEncoder:
    """A frozen DINOv2 (Oquab et al. 2024) in float32: the class token after the last layer norm.

    It was trained on pictures without texts, so it is independent of CLIP, which generators contain.

    Attributes:
        name: the hub id, or the folder's own name.
        model: the network; no parameter requires grad.

    Args:
        path_or_id: a folder with a DINOv2 in safetensors and its image processor, or a hub id.
        device: where the network runs; vectors always come back on the CPU.

    Raises:
        InputError: the network cannot be loaded, is no DINOv2, or lacks some of its weights.
    """

    def __init__(self, path_or_id: str = "facebook/dinov2-base", device: torch.device | str = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import AutoModel, BitImageProcessorPil

        self.name, self.device = name_of(path_or_id), torch.device(device)
        try:
            self.model = load_frozen(AutoModel, path_or_id, f"Encoder {self.name!r}")
            self.processor = BitImageProcessorPil.from_pretrained(path_or_id)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"DINOv2 {path_or_id!r} cannot be loaded: give a folder with the model in safetensors and its image "
                "processor, or the id of such a repository that is reachable or already downloaded. One that has only "
                "pytorch_model.bin: convert it with AutoModel.from_pretrained(ID).save_pretrained(FOLDER)."
            ) from error
        if self.model.config.model_type not in DINOV2:
            raise InputError(f"{path_or_id!r} is a {self.model.config.model_type}; give a DINOv2.")
        self.model.to(self.device)

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return unit vectors float32 (B, D) of pictures, uint8 (B, 3, H, W) or PIL images of any sizes."""
        return unit_vectors(images, self.processor, self.model, self.model.config.hidden_size, self.device)


class CsdEncoder:
    """The frozen style descriptor of Somepalli et al. 2024 ("Measuring Style Similarity in Diffusion Models"), float32.

    A CLIP ViT-L/14 fine-tuned so that pictures of one style lie near each other, whatever their content; pictures
    are resized and cropped as for CLIP. Stable Diffusion 1.5 reads prompts with the text encoder of the same CLIP.

    Attributes:
        name: the hub id, or the folder's own name.
        model: CLIPVisionModelWithProjection; no parameter requires grad.

    Args:
        path_or_id: a folder or a hub repository with `model.safetensors` in the layout of the authors' class: the
            vision tower with OpenAI's names under `backbone.`, and the projection `last_layer_style` (1024, 768).
        device: where the network runs; vectors always come back on the CPU.

    Raises:
        InputError: the file cannot be loaded, or its weights are not those of a CSD.
    """

    def __init__(self, path_or_id: str = "yuxi-liu-wired/CSD", device: torch.device | str = "cpu") -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import CLIPImageProcessorPil
        from transformers.utils import cached_file

        self.name, self.device = name_of(path_or_id), torch.device(device)
        try:
            weights = load_file(cached_file(path_or_id, "model.safetensors"))
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(
                f"CSD {path_or_id!r} cannot be loaded: give a folder with its model.safetensors, or the id of such a "
                "repository that is reachable or already downloaded."
            ) from error
        try:
            self.model = csd_model(weights)
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"model.safetensors of {path_or_id!r} does not hold a whole CSD, its vision tower as backbone.* and "
                "last_layer_style: fetch it again, or give the id of another repository."
            ) from error
        self.model.to(self.device)  # outside the try: a full device does not mean that the file is bad
        side = self.model.config.image_size
        self.processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return unit vectors float32 (B, D) of pictures, uint8 (B, 3, H, W) or PIL images of any sizes."""
        width = self.model.config.projection_dim
        return unit_vectors(
            images, self.processor, lambda pixel_values: self.model(pixel_values).image_embeds, width, self.device
        )


def csd_model(weights: dict[str, Tensor]) -> Any:
    """Build a CLIPVisionModelWithProjection from CSD's weights: frozen, in eval mode, float32.

    Its size follows from the weights, as in OpenAI's CLIP: heads of 64, a square grid of patches.

    Args:
        weights: `backbone.*` and `last_layer_style`; the content projection `last_layer_content` is not used.

    Raises:
        KeyError, RuntimeError: weights are missing, left over or of the wrong shape.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tower = {name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")}
    width, _, patch, _ = tower["conv1.weight"].shape
    depth = sum(name.endswith("attn.in_proj_weight") for name in tower)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        image_size=round((len(tower["positional_embedding"]) - 1) ** 0.5) * patch,
        patch_size=patch,
        projection_dim=weights["last_layer_style"].shape[1],
        hidden_act="quick_gelu",
    )
    state = {
        "visual_projection.weight": weights["last_layer_style"].T,
        "vision_model.embeddings.class_embedding": tower.pop("class_embedding"),
        "vision_model.embeddings.position_embedding.weight": tower.pop("positional_embedding"),
        "vision_model.embeddings.patch_embedding.weight": tower.pop("conv1.weight"),
    }
    for kind in ("weight", "bias"):
        state[f"vision_model.pre_layrnorm.{kind}"] = tower.pop(f"ln_pre.{kind}")
        state[f"vision_model.post_layernorm.{kind}"] = tower.pop(f"ln_post.{kind}")
        for number in range(depth):
            old, new = f"transformer.resblocks.{number}", f"vision_model.encoder.layers.{number}"
            for name, value in zip("qkv", tower.pop(f"{old}.attn.in_proj_{kind}").chunk(3), strict=True):
                state[f"{new}.self_attn.{name}_proj.{kind}"] = value
            for theirs, ours in LAYERS.items():
                state[f"{new}.{ours}.{kind}"] = tower.pop(f"{old}.{theirs}.{kind}")
    if tower:
        raise KeyError(*tower)
    with torch.random.fork_rng(devices=[]):  # constructors draw initial weights; the global RNG must not change
        model = CLIPVisionModelWithProjection(config)
    model.load_state_dict(state)
    return model.float().eval().requires_grad_(False)


def load_image_encoder(name: str, device: torch.device | str = "cpu") -> ImageEncoder:
    """Load an image encoder by its name in a config.

    Args:
        name: mini (the embedded CLIP), mini-style, efficientnet-lite0, or a folder or hub id of a CLIP, a DINOv2, a
            CLIP vision tower with a style projection, or CSD, told apart by config.json's `model_type`, which for CSD
            is none of transformers'.
        device: where the network runs.

    Raises:
        InputError: the network cannot be loaded, or is of another kind.
    """
    match name:
        case "mini":
            return ClipEncoder(name, device)
        case "mini-style":
            return StyleEncoder("mini", device)
        case "efficientnet-lite0":
            return EfficientNetLite0()
    match _model_type(name):
        case "clip":
            return ClipEncoder(name, device)
        case "clip_vision_model":
            return StyleEncoder(name, device)
        case kind if kind in DINOV2:
            return DinoEncoder(name, device)
        case None:
            return CsdEncoder(name, device)
        case kind:
            raise InputError(f"{name!r} is a {kind}: give a CLIP, a CLIP vision tower, a DINOv2 or CSD.")


def _model_type(path_or_id: str) -> str | None:
    """Return the `model_type` of a folder or hub repository; None if transformers does not know it."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    try:
        kind = PretrainedConfig.get_config_dict(path_or_id)[0].get("model_type")
    except OSError as error:
        raise InputError(
            f"Encoder {path_or_id!r} cannot be loaded: give 'mini', 'mini-style', 'efficientnet-lite0', a whole "
            "folder, or a hub id that is reachable or already downloaded."
        ) from error
    return kind if kind in CONFIG_MAPPING else None
