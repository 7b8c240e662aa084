"""What a base's configurations have to say, checked before networks are built of them: a billion layers never end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stylelora.records import InputError
from stylelora.texts import read_object


class Number(NamedTuple):
    """A number, or a list of numbers, of a configuration; bounds are several times what any Stable Diffusion has."""

    greatest: float
    required: bool = True
    lists: bool | None = False  # None: either
    whole: bool = True


_WIDTH = Number(2**14)
_WIDTHS = Number(2**14, lists=True)
_LAYERS = Number(32, required=False, lists=None)
#: File of a base -> key -> what it may be.
NUMBERS = {
    "unet/config.json": {
        "in_channels": Number(64),
        "block_out_channels": _WIDTHS,
        "cross_attention_dim": _WIDTH,
        "sample_size": Number(1024),
        "layers_per_block": _LAYERS,
        "transformer_layers_per_block": _LAYERS,
        "attention_head_dim": Number(2**14, required=False, lists=None),
        "norm_num_groups": Number(2**14, required=False),
    },
    "vae/config.json": {
        "block_out_channels": _WIDTHS,
        "latent_channels": Number(64),
        "layers_per_block": _LAYERS,
        "norm_num_groups": Number(2**14, required=False),
        "scaling_factor": Number(1000, required=False, whole=False),  # SD 1.5's own file has none
    },
    "text_encoder/config.json": {
        "hidden_size": _WIDTH,
        "intermediate_size": Number(2**16),
        "num_hidden_layers": Number(100),
        "num_attention_heads": Number(1024),
        "vocab_size": Number(2**20),
        "max_position_embeddings": Number(2**16, required=False),
    },
    "scheduler/scheduler_config.json": {"num_train_timesteps": Number(10**5, required=False)},
}
RECIPE = {"num_inference_steps": Number(1000), "guidance_scale": Number(1000, whole=False)}
#: What a UNet may predict here.
PREDICTIONS = ("epsilon", "v_prediction")


def check_configs(folder: Path) -> None:
    """Check the configurations of a base in diffusers' layout, each by itself and with one another.

    Raises:
        InputError: if one is not there or is not JSON, or says something that no Stable Diffusion can be.
    """
    found = {name: read_object(folder / name) for name in NUMBERS}
    for name, numbers in NUMBERS.items():
        check_numbers(folder / name, found[name], numbers)
    wide, given = found["text_encoder/config.json"]["hidden_size"], found["unet/config.json"]["cross_attention_dim"]
    if wide != given:
        raise InputError(
            f"{folder} has parts of different models: its text encoder is {wide} wide, but its UNet takes texts of "
            f"{given}; download it again"
        )


def check_numbers(file: Path, config: Mapping[str, Any], numbers: Mapping[str, Number]) -> None:
    """Check the numbers in a configuration.

    Args:
        file: where it is from, for errors.
        config: its content.
        numbers: key -> what it may be; 0 never is.

    Raises:
        InputError: if one is missing, no number, or out of range.
    """
    for key, number in numbers.items():
        value = config.get(key)
        if value is None and not number.required:
            continue
        several = isinstance(value, list) and number.lists is not False
        values = value if several else [value]
        kind = int if number.whole else (int, float)
        fits = all(
            isinstance(one, kind) and not isinstance(one, bool) and 0 < one <= number.greatest and math.isfinite(one)
            for one in values
        )
        if not fits or not 0 < len(values) <= 100 or (number.lists and not several):
            least = "1" if number.whole else "above 0"
            what = f"{'whole ' * number.whole}number{'s' * bool(number.lists)} from {least} to {number.greatest:g}"
            raise InputError(f"{file} has {key} {json.dumps(value)[:60]}, not {what}; download it again")


def check_scheduler(scheduler: Any, folder: Path) -> None:
    """Check that a scheduler adds noise as that of Stable Diffusion does.

    Raises:
        InputError: if it has no schedule of noise, one without an end, or a prediction that is not known here.
    """
    import torch

    left = getattr(scheduler, "alphas_cumprod", None)  # share of the picture at each timestep
    if not isinstance(left, torch.Tensor):
        raise InputError(f"{folder} has a {type(scheduler).__name__}, which belongs to newer models; give another base")
    if not (torch.isfinite(left).all() and 0 <= left[-1] < left[0] < 1 and (left.diff() <= 0).all()):
        raise InputError(f"{folder} has betas that make no noise schedule; download it again")
    if (predicts := scheduler.config.get("prediction_type", "epsilon")) not in PREDICTIONS:
        raise InputError(f"{folder} has prediction_type {predicts!r}; a base here has {' or '.join(PREDICTIONS)}")


def check_tokenizer(tokenizer: Any, text_encoder: Mapping[str, Any], folder: Path) -> None:
    """Check that the text encoder takes what the tokenizer gives.

    Args:
        tokenizer: the base's.
        text_encoder: configuration of the text encoder.
        folder: of the tokenizer, for errors.

    Raises:
        InputError: if texts are longer, or have other tokens, than the text encoder knows.
    """
    length, most = tokenizer.model_max_length, text_encoder.get("max_position_embeddings", 77)
    if not (isinstance(length, int) and 2 <= length <= most):
        raise InputError(
            f"{folder} has model_max_length {length!r}, but the text encoder takes {most} tokens; correct its "
            "tokenizer_config.json"
        )
    if len(tokenizer) > text_encoder["vocab_size"]:
        raise InputError(
            f"{folder} has {len(tokenizer)} tokens, but the text encoder knows {text_encoder['vocab_size']}; download "
            "the base again"
        )
