"""Arguments of LyCORIS, a network for sd-scripts, read in its `kohya.py` and `modules/locon.py`."""

from __future__ import annotations

from typing import Any

from stylelora.migration.layers import PRESETS, is_lycoris
from stylelora.migration.rows import (
    UNUSED,
    Answer,
    Row,
    Settings,
    Status,
    equivalent,
    ignored,
    number,
    taken,
    unsupported,
    yes,
)

_OFF = ("False", "false")


def preset(value: Any, settings: Settings) -> Answer:
    """The layers that get a LoRA."""
    if not is_lycoris(settings):
        return Answer(Status.IGNORED, "only LyCORIS has presets")
    if value in PRESETS:
        return Answer(Status.TAKEN, "its layers are model.target_modules, see network_dim")
    return Answer(Status.UNSUPPORTED, "layers are those of full; choose others by model.target_modules")


def dropout(value: Any, settings: Settings) -> Answer:
    """Dropout of the LoRA, which networks.lora does not read here."""
    if not is_lycoris(settings):
        return Answer(Status.IGNORED, "networks.lora reads network_dropout instead")
    return _on_the_input(value, "LyCORIS drops its output, and newer versions only with bypass_mode")


def network_dropout(value: Any, settings: Settings) -> Answer:
    """Dropout of the LoRA; sd-scripts passes it to LyCORIS, too, unless network_args has its own."""
    if is_lycoris(settings):
        if "network_args.dropout" in settings:
            return Answer(Status.IGNORED, "dropout of network_args counts")
        return dropout(value, settings)
    return _on_the_input(value, "kohya drops between its two matrices")


def _on_the_input(value: Any, theirs: str) -> Answer:
    if not number(value or 0):
        return UNUSED
    return Answer(Status.EQUIVALENT, f"on the LoRA's input; {theirs}", {"model.lora_dropout": number(value)})


def rank_dropout(value: Any, settings: Settings) -> Answer:
    """Dropout of ranks."""
    if not number(value or 0):
        return UNUSED
    options = {"model.lora.rank_dropout": number(value)}
    if is_lycoris(settings):
        return Answer(Status.EQUIVALENT, "of ranks; LyCORIS drops output channels, unless bypass_mode is on", options)
    return Answer(Status.TAKEN, "", options)


TABLE: dict[str, Row] = {
    "network_args.preset": taken("model.target_modules", preset),
    "network_args.dropout": equivalent("model.lora_dropout", "on the LoRA's input; LyCORIS drops its output", dropout),
    "network_dropout": equivalent(
        "model.lora_dropout", "on the LoRA's input; kohya drops between its two matrices", network_dropout
    ),
    "network_args.rank_dropout": taken("model.lora.rank_dropout", rank_dropout),
    "network_args.rs_lora": taken("model.lora.use_rslora", lambda value, settings: yes(value) or None),
    "network_args.train_norm": unsupported("normalisations are not trained", *_OFF),
    "network_args.use_scalar": unsupported("there is no scalar; the LoRA starts at zero all the same", *_OFF),
    "network_args.bypass_mode": ignored("it computes the same in another way"),
    "network_args.wd_on_output": ignored("see dora_wd"),
} | dict.fromkeys(
    ("network_args.use_tucker", "network_args.use_cp", "network_args.use_conv_cp"),
    unsupported("3x3 convolutions get two matrices, not three", *_OFF),
)
