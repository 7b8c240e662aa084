"""Rules of sd-scripts that need more than one setting, read in its `train_network.py` and `networks/lora.py`.

With LyCORIS, 3x3 convolutions have network_dim and network_alpha, unless conv_dim and conv_alpha say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stylelora.migration import layers, optimizers
from stylelora.migration.rows import UNUSED, Answer, Settings, Status, number, same, whole, yes
from stylelora.records import InputError

TEXT = "model.text_encoder"


def trains_text_encoder(settings: Settings) -> bool:
    """Return whether the text encoder gets a LoRA that is trained; with a rate of 0 kohya leaves it out."""
    rate = first(settings.get("text_encoder_lr"))
    rate = settings.number("learning_rate") if rate is None else number(rate, "text_encoder_lr")
    return not settings.on("network_train_unet_only") and rate != 0 and bool(layers.of_kohya(settings).text)


def first(value: Any) -> Any:
    """Return the first of several; newer versions take one rate per text encoder."""
    if isinstance(value, list):
        return value[0] if value else None
    return value if value != "" else None


def network_dim(value: Any, settings: Settings) -> Answer:
    """The rank, of the UNet and, where it is trained, of the text encoder."""
    rank, network = whole(value, "network_dim"), layers.of_kohya(settings)
    options = {"model.rank": rank, "model.target_modules": [*network.layers, *network.convolutions]}
    if trains_text_encoder(settings):
        options |= {f"{TEXT}.rank": rank, f"{TEXT}.target_modules": network.text}
    notes = ["of the UNet and the text encoder"] * (len(options) > 2)
    if layers.is_lycoris(settings):
        notes.append(f"in the layers of LyCORIS's preset {settings.get('network_args.preset', 'full')}")
    return Answer(Status.TAKEN, ", ".join(notes), options)


def network_alpha(value: Any, settings: Settings) -> Answer:
    """Alpha; 0 means the rank."""
    alpha = number(value, "network_alpha")
    if alpha == 0:
        alpha = settings.number("network_dim")
    options = {"model.alpha": alpha}
    if trains_text_encoder(settings):
        options[f"{TEXT}.alpha"] = alpha
    return Answer(Status.TAKEN, "0 is the rank" * same(value, 0), options)


def conv_dim(value: Any, settings: Settings) -> Answer | None:
    """Another rank for 3x3 convolutions."""
    if not (rank := whole(value, "conv_dim")):
        return UNUSED
    if not (convolutions := layers.of_kohya(settings).convolutions):
        return Answer(Status.IGNORED, f"preset {settings.get('network_args.preset')} has no 3x3 convolutions")
    note = "3x3 convolutions get a LoRA of this rank, and the other layers of their blocks one of network_dim"
    options = {f"model.lora.rank_pattern.{layer}": rank for layer in convolutions}
    if "network_args.conv_alpha" not in settings:
        own = layers.is_lycoris(settings)
        alpha = (settings.number("network_alpha", 1.0) if own else 1.0) or rank
        options |= {f"model.lora.alpha_pattern.{layer}": alpha for layer in convolutions}
        note += f"; their alpha is {alpha:g}, {'as that of the others' if own else 'the default of kohya'}"
    return Answer(Status.EQUIVALENT, note, options)


def conv_alpha(value: Any, settings: Settings) -> Answer:
    """Alpha of 3x3 convolutions."""
    if not (convolutions := layers.of_kohya(settings).convolutions):
        return Answer(Status.IGNORED, "no 3x3 convolutions get a LoRA")
    alpha = number(value, "conv_alpha") or settings.number("network_args.conv_dim") or settings.number("network_dim")
    return Answer(
        Status.EQUIVALENT,
        "alpha of 3x3 convolutions",
        {f"model.lora.alpha_pattern.{layer}": alpha for layer in convolutions},
    )


def learning_rate(value: Any, settings: Settings) -> Answer:
    """The rate of what has none of its own."""
    unet, text = settings.get("unet_lr"), first(settings.get("text_encoder_lr"))
    options = {f"{optimizers.INIT}.lr": number(value, "learning_rate")} if unet is None else {}
    one = optimizers.finds_its_rate(str(settings.get("optimizer_type", "")))
    if text is None and trains_text_encoder(settings) and not one:
        options[f"{TEXT}.learning_rate"] = number(value, "learning_rate")
    if not options:
        return Answer(Status.IGNORED, "unet_lr counts" if text is None else "unet_lr and text_encoder_lr count")
    parts = " and ".join(("the UNet" if "optimizer" in name else "the text encoder") for name in options)
    return Answer(Status.TAKEN, f"of {parts}", options)


def unet_lr(value: Any, settings: Settings) -> Answer:
    """The rate of the UNet."""
    if value in (None, ""):
        return Answer(Status.TAKEN, "learning_rate counts")
    if number(value, "unet_lr") == 0:
        raise InputError("unet_lr is 0, so only the text encoder is trained; fit trains the UNet, so give it a rate")
    return Answer(Status.TAKEN, "", {f"{optimizers.INIT}.lr": number(value, "unet_lr")})


def text_encoder_lr(value: Any, settings: Settings) -> Answer:
    """The rate of the text encoder."""
    if settings.on("network_train_unet_only"):
        return Answer(Status.IGNORED, "only the UNet is trained")
    if (rate := first(value)) is None:
        return Answer(Status.TAKEN, "learning_rate counts")
    rate = number(rate, "text_encoder_lr")
    if rate == 0:
        return Answer(Status.EQUIVALENT, "the text encoder is not trained", {f"{TEXT}.rank": 0})
    if optimizers.finds_its_rate(str(settings.get("optimizer_type", ""))):
        return Answer(Status.IGNORED, "this optimiser has one rate for all, as in kohya")
    return Answer(Status.TAKEN, "", {f"{TEXT}.learning_rate": rate})


def unet_only(value: Any, settings: Settings) -> Answer:
    """Only the UNet gets a LoRA."""
    if not yes(value, "network_train_unet_only"):
        idle = "text_encoder_lr is 0" if layers.of_kohya(settings).text else "the preset has no text encoder"
        note = "the text encoder is trained, too" if trains_text_encoder(settings) else idle
        return Answer(Status.TAKEN, note)
    return Answer(Status.TAKEN, "", {f"{TEXT}.rank": 0})


def text_encoder_only(value: Any, settings: Settings) -> Answer:
    """Only the text encoder gets a LoRA, which cannot be had."""
    if yes(value, "network_train_text_encoder_only"):
        raise InputError("network_train_text_encoder_only is true, but fit always trains the UNet; take it out")
    return UNUSED


def optimizer_type(value: Any, settings: Settings) -> Answer:
    """The optimiser, with what kohya passes by itself."""
    if not value and settings.on("use_8bit_adam"):
        return Answer(Status.IGNORED, "use_8bit_adam counts")
    if not value and settings.on("use_lion_optimizer"):
        return Answer(Status.IGNORED, "use_lion_optimizer counts")
    name = str(value or "AdamW").lower()
    answer = optimizers.optimizer(str(value), optimizers.NESTEROV.get(name))
    if name == "adafactor" and settings.get("optimizer_args.relative_step", True):
        return Answer(
            Status.UNSUPPORTED,
            "Adafactor that finds its own rate (relative_step) is not there; it takes learning_rate here, so check it",
            {**answer.options, f"{optimizers.INIT}.relative_step": False, f"{optimizers.INIT}.scale_parameter": False},
        )
    return answer


def relative_step(value: Any, settings: Settings) -> Answer:
    """A switch of Adafactor, which makes its own learning rate."""
    if yes(value, "relative_step"):
        return Answer(Status.UNSUPPORTED, "see optimizer_type")
    return Answer(Status.TAKEN, "", {f"{optimizers.INIT}.relative_step": False})


def lr_scheduler(value: Any, settings: Settings) -> Answer:
    """The schedule of the learning rate."""
    if str(settings.get("optimizer_type", "")).lower().endswith("schedulefree"):
        return Answer(Status.IGNORED, "a schedule-free optimiser has none")
    if settings.get("lr_scheduler_type"):
        return Answer(Status.IGNORED, "lr_scheduler_type counts")
    power = settings.number("lr_scheduler_power", 1.0)
    if value == "polynomial" and power != 1:
        return Answer(
            Status.UNSUPPORTED,
            f"the rate falls in a line, not with power {power:g}; or give model.lr_scheduler a class",
            optimizers.shape("linear", "").options,
        )
    return optimizers.shape(str(value), "lr_warmup_steps")


def lr_warmup_steps(value: Any, settings: Settings) -> Answer:
    """The warm-up: a whole number of steps, or a share of them."""
    rise = optimizers.rise(value)
    if not rise:
        return UNUSED
    name = settings.get("lr_scheduler", "constant")
    if name == "constant" or optimizers.SHAPE not in lr_scheduler(name, settings).options:
        return Answer(Status.IGNORED, "the schedule has no warm-up; with constant_with_warmup it would")
    return Answer(Status.TAKEN, "a share of the steps" * (rise < 1), {"model.lr_scheduler.init_args.warmup": rise})


def num_cycles(value: Any, settings: Settings) -> Answer:
    """The number of cosines."""
    if settings.get("lr_scheduler") != "cosine_with_restarts" or value in (None, ""):
        return Answer(Status.IGNORED, "only cosine_with_restarts has cycles")
    cycles = max(1, whole(value, "lr_scheduler_num_cycles"))
    return Answer(Status.TAKEN, "", {"model.lr_scheduler.init_args.cycles": cycles})


def max_train_steps(value: Any, settings: Settings) -> Answer:
    """The length in steps of the optimiser; epochs replace it."""
    if settings.number("max_train_epochs"):
        return Answer(Status.IGNORED, "max_train_epochs counts")
    return Answer(Status.TAKEN, "", {"trainer.max_steps": whole(value, "max_train_steps"), "trainer.max_epochs": -1})


def precision(value: Any, settings: Settings) -> Answer:
    """Mixed precision; kohya keeps the frozen base in that type, too."""
    del settings
    kinds = {"no": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}
    kind = kinds.get(str(value or "no"))
    if kind is None:
        raise InputError(f"mixed_precision is {value!r}; there are {', '.join(kinds)}")
    if kind == "bf16-mixed":
        options = {"trainer.precision": kind, "model.base_dtype": "bfloat16"}
        return Answer(Status.TAKEN, "the frozen base is in bfloat16, the LoRA in float32", options)
    note = "the frozen base stays in float32 and takes more memory" if kind == "16-mixed" else ""
    return Answer(Status.EQUIVALENT if note else Status.TAKEN, note, {"trainer.precision": kind})


def output_name(value: Any, settings: Settings) -> Answer:
    """Name of the LoRA: ours is that of the run's folder."""
    folder = settings.get("output_dir", "runs")
    return Answer(
        Status.EQUIVALENT,
        f"the LoRA is {folder}/{value}/{value}.safetensors",
        {"trainer.default_root_dir": str(Path(str(folder), str(value)))},
    )
