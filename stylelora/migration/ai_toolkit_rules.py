"""Rules of ai-toolkit that need more than one setting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stylelora.migration import captions, kohya_data_rules, optimizers
from stylelora.migration.kohya_rules import TEXT
from stylelora.migration.layers import ALL_CONVOLUTIONS, ALL_LAYERS, TEXT_LAYERS
from stylelora.migration.rows import UNUSED, Answer, Setting, Settings, Status, number, whole, yes
from stylelora.records import InputError

DTYPES = kohya_data_rules.DTYPES
base = kohya_data_rules.base


def text_trains(settings: Settings) -> bool:
    """Return whether the text encoder is trained."""
    return settings.on("train.train_text_encoder")


def rank(value: Any, settings: Settings) -> Answer:
    """The rank, of the UNet and, where it is trained, of the text encoder; 3x3 convolutions need `conv`."""
    found, conv = whole(value), whole(settings.get("network.conv", 0) or 0)
    targets = [*ALL_LAYERS, *(ALL_CONVOLUTIONS if conv else [])]
    more = {f"{TEXT}.rank": found, f"{TEXT}.target_modules": TEXT_LAYERS} if text_trains(settings) else {}
    return Answer(Status.TAKEN, "", {"model.rank": found, "model.target_modules": targets} | more)


def alpha(value: Any, settings: Settings) -> Answer:
    """Alpha of both; linear_alpha counts before alpha."""
    found = number(value)
    more = {f"{TEXT}.alpha": found} if text_trains(settings) else {}
    return Answer(Status.TAKEN, "", {"model.alpha": found} | more)


def older_alpha(value: Any, settings: Settings) -> Answer:
    """Alpha, where there is no linear_alpha in the file."""
    if any(setting.key == "network.linear_alpha" and setting.given for setting in settings.all):
        return Answer(Status.IGNORED, "linear_alpha counts")
    return alpha(value, settings)


def conv(value: Any, settings: Settings) -> Answer:
    """Rank and, if the file does not say it, alpha of 3x3 convolutions."""
    if not value:
        return UNUSED
    found = whole(value)
    options = {f"model.lora.rank_pattern.{layer}": found for layer in ALL_CONVOLUTIONS}
    if settings.get("network.conv_alpha") is None:
        options |= {f"model.lora.alpha_pattern.{layer}": float(found) for layer in ALL_CONVOLUTIONS}
    return Answer(Status.EQUIVALENT, "3x3 convolutions get a LoRA of this rank", options)


def conv_alpha(value: Any, settings: Settings) -> Answer:
    """Alpha of 3x3 convolutions."""
    if not settings.get("network.conv"):
        return Answer(Status.IGNORED, "it needs conv")
    options = {f"model.lora.alpha_pattern.{layer}": number(value) for layer in ALL_CONVOLUTIONS}
    return Answer(Status.EQUIVALENT, "alpha of 3x3 convolutions", options)


def trains_unet(value: Any, settings: Settings) -> Answer:
    """The UNet is trained."""
    if not yes(value, "train_unet"):
        raise InputError("train.train_unet is false, but fit always trains the UNet; set it to true")
    return Answer(Status.TAKEN, "as here")


def trains_text(value: Any, settings: Settings) -> Answer:
    """Whether the text encoder gets a LoRA."""
    if yes(value, "train_text_encoder"):
        return Answer(Status.TAKEN, "a LoRA of its own, of the same rank")
    return Answer(Status.TAKEN, "", {f"{TEXT}.rank": 0})


def rate(value: Any, settings: Settings) -> Answer:
    """The rate of what has none of its own."""
    options = {} if settings.number("train.unet_lr") else {f"{optimizers.INIT}.lr": _own(value, settings)}
    one = optimizers.finds_its_rate(str(settings.get("train.optimizer", "")))
    if text_trains(settings) and not settings.number("train.text_encoder_lr") and not one:
        options[f"{TEXT}.learning_rate"] = _own(value, settings)
    return Answer(Status.TAKEN, "", options) if options else Answer(Status.IGNORED, "rates of the parts count")


def _own(value: Any, settings: Settings) -> float:
    """Return the rate; ai-toolkit takes 1 for Prodigy and D-Adaptation where it is below 0.1."""
    finds = str(settings.get("train.optimizer", "")).lower().startswith(("prodigy", "dadapt"))
    return 1.0 if finds and number(value) < 0.1 else number(value)


def unet_rate(value: Any, settings: Settings) -> Answer:
    """The rate of the UNet."""
    return Answer(Status.TAKEN, "", {f"{optimizers.INIT}.lr": _own(value, settings)})


def text_rate(value: Any, settings: Settings) -> Answer:
    """The rate of the text encoder."""
    if not text_trains(settings):
        return Answer(Status.IGNORED, "the text encoder is not trained")
    if optimizers.finds_its_rate(str(settings.get("train.optimizer", ""))):
        return Answer(Status.IGNORED, "this optimiser has one rate for all")
    return Answer(Status.TAKEN, "", {f"{TEXT}.learning_rate": number(value)})


def optimizer(value: Any, settings: Settings) -> Answer:
    """The optimiser, with the eps of 1e-6 that ai-toolkit sets for the kinds of Adam."""
    name = str(value).lower()
    name = {"adamw8": "adamw8bit", "adam8": "adam8bit", "dadaptationadam": "dadaptadam"}.get(name, name)
    if name.startswith("automagic"):
        note = "Automagic is not there, so AdamW is taken; check the rate"
        return Answer(Status.UNSUPPORTED, note, optimizers.optimizer("adamw").options)
    adam = name.startswith(("adam", "prodigy", "dadapt", "ademamix"))
    return optimizers.optimizer(name, {"eps": 1e-6} if adam else None)


def argument(setting: Setting, settings: Settings) -> Answer:
    """An argument of the optimiser."""
    value = optimizers.literal(setting.value) if isinstance(setting.value, str) else setting.value
    return optimizers.argument(Setting(setting.name, setting.key, value), settings)


def scheduler(value: Any, settings: Settings) -> Answer:
    """The schedule of the learning rate; one cycle as long as the run."""
    names = {"constant": "constant", "cosine": "cosine", "constant_with_warmup": "constant_with_warmup"}
    names["cosine_with_restarts"] = "cosine"
    if value not in names:
        options = optimizers.shape("constant", "").options
        note = "the rate is constant; shapes are constant, linear and cosine (model.lr_scheduler)"
        return Answer(Status.UNSUPPORTED, note, options)
    return optimizers.shape(names[value], "lr_scheduler_params.num_warmup_steps")


def warmup(value: Any, settings: Settings) -> Answer:
    """Steps of the warm-up."""
    if settings.get("train.lr_scheduler", "constant") != "constant_with_warmup":
        return Answer(Status.IGNORED, "only constant_with_warmup has a warm-up")
    return Answer(Status.TAKEN, "", {"model.lr_scheduler.init_args.warmup": whole(value)})


def steps(value: Any, settings: Settings) -> Answer:
    """The length; with gradient_accumulation_steps it is counted in batches."""
    count, batches = whole(value), whole(settings.get("train.gradient_accumulation_steps", 1))
    note = "of the optimiser; ai-toolkit counts batches" if batches > 1 else ""
    options = {"trainer.max_steps": math.ceil(count / max(1, batches)), "trainer.max_epochs": -1}
    return Answer(Status.EQUIVALENT if note else Status.TAKEN, note, options)


def save_every(value: Any, settings: Settings) -> Answer:
    """LoRAs every n steps, which gradient_accumulation_steps counts as batches."""
    count, batches = whole(value or 0), whole(settings.get("train.gradient_accumulation_steps", 1) or 1)
    if not count:
        return UNUSED
    note = "in steps of the optimiser; ai-toolkit counts batches" if batches > 1 else ""
    options = {"save_adapter.every_n_steps": max(1, count // batches)}
    return Answer(Status.EQUIVALENT if note else Status.TAKEN, note, options)


def use_wandb(value: Any, settings: Settings) -> Answer:
    """The logger."""
    if not yes(value):
        return UNUSED
    project, name = settings.get("logging.project_name", "ai-toolkit"), settings.get("logging.run_name")
    return Answer(Status.TAKEN, "pip install wandb", {"trainer.logger": kohya_data_rules.wandb(project, name)})


def no_samples(value: Any, settings: Settings) -> Answer:
    """Whether no samples are drawn."""
    if not yes(value):
        return UNUSED
    return Answer(Status.UNSUPPORTED, "samples are drawn; model.sample_every_n_epochs makes them rarer")


def precision(value: Any, settings: Settings) -> Answer:
    """The type of what is computed, which the base has, too."""
    kind = DTYPES.get(str(value))
    if kind == "bfloat16":
        return Answer(Status.TAKEN, "", {"trainer.precision": "bf16-mixed", "model.base_dtype": "bfloat16"})
    if kind == "float16":
        note = "the frozen base stays in float32 and takes more memory"
        return Answer(Status.EQUIVALENT, note, {"trainer.precision": "16-mixed"})
    if kind == "float32":
        return Answer(Status.TAKEN, "", {"trainer.precision": "32-true"})
    return Answer(Status.UNSUPPORTED, "float32 is used; there are bf16-mixed and 16-mixed for trainer.precision")


def accumulation(value: Any, settings: Settings) -> int | None:
    """Batches per step, in the newer of two settings; 1 leaves it to the other."""
    return None if value == 1 else whole(value)


def reg_weight(value: Any, settings: Settings) -> Answer:
    """The weight of class pictures."""
    if not settings.get("reg_folder"):
        return Answer(Status.IGNORED, "no data set has is_reg")
    return Answer(Status.TAKEN, "", {"data.prior.weight": number(value)})


def loss(value: Any, settings: Settings) -> Answer:
    """The loss."""
    if value == "mse":
        return Answer(Status.TAKEN, "", {"model.objective.loss": "mse"})
    return Answer(Status.UNSUPPORTED, "the plain loss is used; there is model.objective.loss huber")


def bias(value: Any, settings: Settings) -> Answer:
    """Timesteps of texture or of layout."""
    kinds = {"balanced": "uniform", "style": "style", "content": "content"}
    if value not in kinds:
        return Answer(Status.UNSUPPORTED, "there are uniform, style and content for model.objective.timesteps")
    return Answer(Status.TAKEN, "", {"model.objective.timesteps": kinds[value]})


def denoising_steps(value: Any, settings: Settings) -> Answer:
    """The range of timesteps, which ai-toolkit counts from much noise to little."""
    least, most = (
        settings.number(f"train.{name}_denoising_steps", default) for name, default in (("min", 0), ("max", 999))
    )
    if least <= 0 and most >= 999:
        return Answer(Status.TAKEN, "all timesteps, as here")
    shares = [round(1 - min(most + 1, 1000) / 1000, 4), round(1 - least / 1000, 4)]
    return Answer(Status.EQUIVALENT, "counted from little noise to much", {"model.objective.timestep_range": shares})


def ema(value: Any, settings: Settings) -> Answer:
    """The moving average of the weights."""
    if not yes(value):
        return UNUSED
    return Answer(Status.TAKEN, "", {"model.ema_decay": settings.number("train.ema_config.ema_decay", 0.999)})


def resolution(value: Any, settings: Settings) -> Answer:
    """One side or several."""
    sides = [whole(side, "resolution") for side in (value if isinstance(value, list) else [value])]
    if len({*sides}) == 1:
        return Answer(Status.TAKEN, "", {"data.resolution": sides[0]})
    return Answer(Status.UNSUPPORTED, "there is one resolution; the first is taken", {"data.resolution": sides[0]})


def shuffling(value: Any, settings: Settings) -> Answer:
    """Tags in another order each time."""
    if not yes(value):
        return UNUSED
    return Answer(Status.EQUIVALENT, "one of eight orders each time; the trigger stays in front", {"data.keep_tags": 0})


def trigger(value: Any, settings: Settings) -> Answer:
    """The trigger word, which ai-toolkit puts before captions that do not hold it."""
    if not value:
        return UNUSED
    if not any(setting.key == "trigger_word" and setting.given and setting.value for setting in settings.all):
        return captions.trigger(value, settings, {"data.trigger": value, "data.template": "{text}"})
    note = "put before captions and prompts; take [trigger] and the word itself out of captions"
    return Answer(Status.EQUIVALENT, note, {"data.trigger": value, "data.template": "{trigger} {text}"})


def sample_every(value: Any, settings: Settings) -> Answer:
    """Samples every n steps."""
    if settings.on("train.disable_sampling"):
        return Answer(Status.IGNORED, "disable_sampling is on")
    batches = whole(value) * whole(settings.get("train.gradient_accumulation", 1))
    options = {"trainer.val_check_interval": batches, "trainer.check_val_every_n_epoch": None}
    return Answer(Status.EQUIVALENT, "validation with samples every so many batches", options)


def prompts(value: Any, settings: Settings) -> Answer:
    """Prompts as lines with their options."""
    lines = [line for line in value if line]
    return Answer(Status.TAKEN, "lines of a file beside the config", {}, lines) if lines else UNUSED


def save_dtype(value: Any, settings: Settings) -> Answer:
    """The type of saved weights."""
    if (kind := DTYPES.get(str(value))) is None:
        return Answer(Status.UNSUPPORTED, "there are float32, float16 and bfloat16 for save_adapter.dtype")
    return Answer(Status.TAKEN, "", {"save_adapter.dtype": kind})


def folder(value: Any, settings: Settings) -> Answer:
    """The run's folder: training_folder and the name."""
    place = Path(str(settings.get("training_folder", "output")), str(value))
    return Answer(
        Status.EQUIVALENT, f"the LoRA is {place}/{value}.safetensors", {"trainer.default_root_dir": str(place)}
    )
