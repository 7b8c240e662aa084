"""Which layers other trainers give a LoRA, by the names of `model.target_modules`."""

from __future__ import annotations

from typing import NamedTuple

from stylelora.migration.rows import Settings

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
#: All linear layers and 1x1 convolutions of the transformer blocks.
LAYERS = [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
#: The same of the ResNet blocks, and the 3x3 convolutions of the blocks.
RESNET, CONVOLUTIONS = ["time_emb_proj", "conv_shortcut"], ["conv1", "conv2", "conv"]
#: Those of the whole UNet.
ALL_LAYERS = [*LAYERS, *RESNET, "linear_1", "linear_2"]
ALL_CONVOLUTIONS = [*CONVOLUTIONS, "conv_in", "conv_out"]
#: Layers of the text encoder: all linear ones of its attention and its feed-forward parts.
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


class Network(NamedTuple):
    """Layers that get a LoRA.

    Attributes:
        layers: of the UNet, without 3x3 convolutions.
        convolutions: 3x3 convolutions of the UNet, which may have another rank.
        text: of the text encoder.
    """

    layers: list[str]
    convolutions: list[str]
    text: list[str]


LYCORIS = ("lycoris.kohya", "lycoris.kohya.kohya", "locon.locon_kohya")
#: Preset of LyCORIS -> its layers, by its `config.py`.
PRESETS = {
    "full": Network(ALL_LAYERS, ALL_CONVOLUTIONS, TEXT_LAYERS),
    "full-lin": Network(ALL_LAYERS, [], TEXT_LAYERS),
    "attn-mlp": Network(LAYERS, [], TEXT_LAYERS),
    "attn-only": Network(ATTENTION, [], TEXT_LAYERS[:4]),
    "unet-only": Network(ALL_LAYERS, ALL_CONVOLUTIONS, []),
    "unet-transformer-only": Network(LAYERS, [], []),
    "unet-convblock-only": Network(RESNET, ALL_CONVOLUTIONS, []),
}


def is_lycoris(settings: Settings) -> bool:
    """Return whether the network of sd-scripts is LyCORIS, which has defaults of its own."""
    return settings.get("network_module") in LYCORIS


def of_kohya(settings: Settings) -> Network:
    """Return the layers that get a LoRA in sd-scripts; 3x3 convolutions of LyCORIS need no conv_dim."""
    if not is_lycoris(settings):
        return Network([*LAYERS, *RESNET], CONVOLUTIONS, TEXT_LAYERS) if _conv(settings, 0) else _PLAIN
    found = PRESETS.get(str(settings.get("network_args.preset", "full")), PRESETS["full"])
    return found if _conv(settings, 1) else found._replace(convolutions=[])


_PLAIN = Network(LAYERS, [], TEXT_LAYERS)


def _conv(settings: Settings, default: int) -> bool:
    return bool(settings.number("network_args.conv_dim", default))
