"""Rules of OneTrainer that need more than one setting."""

from __future__ import annotations

from typing import Any

from stylelora.migration import kohya_data_rules, optimizers
from stylelora.migration.kohya_rules import TEXT
from stylelora.migration.layers import ALL_CONVOLUTIONS, ALL_LAYERS, ATTENTION, LAYERS, TEXT_LAYERS
from stylelora.migration.rows import UNUSED, Answer, Setting, Settings, Status, number, whole, yes
from stylelora.records import InputError

#: Preset -> layers; OneTrainer wraps every linear layer and convolution whose name holds the words of the filter.
PRESETS = {
    "full": [*ALL_LAYERS, *ALL_CONVOLUTIONS],
    "attn-mlp": LAYERS,
    "attn-only": ATTENTION,
}
FILTERS = {"": "full", "attentions": "attn-mlp", "attn": "attn-only"}
DTYPES = {"FLOAT_32": "float32", "FLOAT_16": "float16", "BFLOAT_16": "bfloat16", "TFLOAT_32": "float32"}
#: Optimiser -> arguments that OneTrainer passes to it; its file has all arguments of all optimisers.
_ADAM = ("weight_decay", "eps")
ARGUMENTS = {
    "ADAM": (*_ADAM, "amsgrad"),
    "ADAMW": (*_ADAM, "amsgrad"),
    "ADAM_8BIT": _ADAM,
    "ADAMW_8BIT": _ADAM,
    "LION": ("weight_decay",),
    "LION_8BIT": ("weight_decay",),
    "SGD": ("weight_decay", "momentum", "dampening", "nesterov"),
    "PRODIGY": (
        *_ADAM,
        "decouple",
        "use_bias_correction",
        "safeguard_warmup",
        "d0",
        "d_coef",
        "growth_rate",
        "slice_p",
    ),
    "ADAFACTOR": ("weight_decay", "clip_threshold", "decay_rate", "scale_parameter", "relative_step", "warmup_init"),
    "SCHEDULE_FREE_ADAMW": (*_ADAM, "r", "weight_lr_power"),
    "SCHEDULE_FREE_SGD": ("weight_decay", "momentum", "r", "weight_lr_power"),
}
base = kohya_data_rules.base


def _text(settings: Settings) -> bool:
    return settings.on("text_encoder.train")


def rank(value: Any, settings: Settings) -> Answer:
    """The rank, of the UNet and, where it is trained, of the text encoder."""
    found = whole(value, "lora_rank")
    more = {f"{TEXT}.rank": found, f"{TEXT}.target_modules": TEXT_LAYERS} if _text(settings) else {}
    return Answer(Status.TAKEN, "", {"model.rank": found} | more)


def alpha(value: Any, settings: Settings) -> Answer:
    """Alpha of both."""
    found = number(value, "lora_alpha")
    return Answer(Status.TAKEN, "", {"model.alpha": found} | ({f"{TEXT}.alpha": found} if _text(settings) else {}))


def layer_preset(value: Any, settings: Settings) -> Answer:
    """A named choice of layers; the page of OneTrainer turns it into the filter."""
    if settings.get("layer_filter"):
        return Answer(Status.IGNORED, "layer_filter counts")
    if value not in PRESETS:
        return Answer(Status.UNSUPPORTED, "name the layers in model.target_modules")
    return Answer(Status.TAKEN, "", {"model.target_modules": PRESETS[value]})


def layer_filter(value: Any, settings: Settings) -> Answer:
    """Words in the names of layers."""
    if not value:
        return Answer(Status.TAKEN, "layer_filter_preset counts")
    if settings.on("layer_filter_regex") or value not in FILTERS:
        return Answer(Status.UNSUPPORTED, "name the layers in model.target_modules")
    return Answer(Status.TAKEN, "", {"model.target_modules": PRESETS[FILTERS[value]]})


def unet_train(value: Any, settings: Settings) -> Answer:
    """The UNet is trained."""
    if not yes(value, "unet.train"):
        raise InputError("unet.train is false, but fit always trains the UNet; set it to true")
    return Answer(Status.TAKEN, "as here")


def unet_rate(value: Any, settings: Settings) -> Answer:
    """The rate of the UNet."""
    if value in (None, ""):
        return Answer(Status.TAKEN, "learning_rate counts")
    return Answer(Status.TAKEN, "", {f"{optimizers.INIT}.lr": number(value)})


def text_train(value: Any, settings: Settings) -> Answer:
    """Whether the text encoder gets a LoRA."""
    if yes(value, "text_encoder.train"):
        return Answer(Status.TAKEN, "a LoRA of its own, of lora_rank")
    return Answer(Status.TAKEN, "", {f"{TEXT}.rank": 0})


def text_rate(value: Any, settings: Settings) -> Answer:
    """The rate of the text encoder."""
    if not _text(settings):
        return Answer(Status.IGNORED, "the text encoder is not trained")
    if value in (None, ""):
        return Answer(Status.TAKEN, "learning_rate counts")
    if optimizers.finds_its_rate(str(settings.get("optimizer.optimizer"))):
        return Answer(Status.IGNORED, "this optimiser has one rate for all")
    return Answer(Status.TAKEN, "", {f"{TEXT}.learning_rate": number(value)})


def text_stops(value: Any, settings: Settings) -> Answer:
    """When the text encoder stops being trained."""
    if not _text(settings):
        return Answer(Status.IGNORED, "the text encoder is not trained")
    epochs = settings.number("text_encoder.stop_training_after", 0)
    if value == "EPOCH" and epochs >= settings.number("epochs"):
        return Answer(Status.TAKEN, "the run ends before")
    return Answer(Status.UNSUPPORTED, "the text encoder is trained to the end")


def caption_dropout(value: Any, settings: Settings) -> Answer:
    """OneTrainer's dropout of captions."""
    return Answer(Status.EQUIVALENT, "share of empty captions", {"model.caption_dropout": number(value)})


def learning_rate(value: Any, settings: Settings) -> Answer:
    """The rate of what has none of its own."""
    options = {} if settings.number("unet.learning_rate") else {f"{optimizers.INIT}.lr": number(value)}
    one = optimizers.finds_its_rate(str(settings.get("optimizer.optimizer")))
    if _text(settings) and not settings.number("text_encoder.learning_rate") and not one:
        options[f"{TEXT}.learning_rate"] = number(value)
    return Answer(Status.TAKEN, "", options) if options else Answer(Status.IGNORED, "rates of the parts count")


def clip_skip(value: Any, settings: Settings) -> int:
    """The layer of the text encoder, of which OneTrainer calls the last 0."""
    return whole(value or 0) + 1


def checkpointing(value: Any, settings: Settings) -> Answer:
    """The older switch, of true, false, ON, OFF or CPU_OFFLOADED."""
    on = value not in ("OFF", False, None)
    note = "nothing is moved to the CPU" if value == "CPU_OFFLOADED" else ""
    return Answer(Status.EQUIVALENT if note else Status.TAKEN, note, {"model.gradient_checkpointing": on})


def ema(value: Any, settings: Settings) -> Answer:
    """The moving average of the weights."""
    if value == "OFF":
        return UNUSED
    decay, every = settings.number("ema_decay", 0.999), settings.number("ema_update_step_interval", 1) or 1
    if every == 1:
        return Answer(Status.TAKEN, "", {"model.ema_decay": decay})
    note = "taken after every step, with as long a memory"
    return Answer(Status.EQUIVALENT, note, {"model.ema_decay": round(decay ** (1 / every), 6)})


def only_with_ema(value: Any, settings: Settings) -> Answer:
    """What counts only with an average."""
    if settings.get("ema", "OFF") == "OFF":
        return Answer(Status.IGNORED, "ema is off")
    return Answer(Status.EQUIVALENT, "model.ema_decay is its root of ema_decay")


def optimizer(value: Any, settings: Settings) -> Answer:
    """The optimiser."""
    answer = optimizers.optimizer(str(value))
    betas = [settings.number(f"optimizer.beta{which}") for which in (1, 2)]
    more = {f"{optimizers.INIT}.betas": betas} if None not in betas else {}
    return Answer(answer.status, answer.note, {**answer.options, **more})


def argument(setting: Setting, settings: Settings) -> Answer:
    """An argument of an optimiser."""
    kind, name = str(settings.get("optimizer.optimizer")), setting.key.split(".", 1)[1]
    if name in ("beta1", "beta2") and setting.value is not None:
        return Answer(Status.TAKEN, "model.optimizer has betas, see optimizer.optimizer")
    if setting.value is None or (kind in ARGUMENTS and name not in ARGUMENTS[kind]):
        return Answer(Status.IGNORED, f"no argument of {kind} here" if kind in ARGUMENTS else "not set")
    if kind not in ARGUMENTS:
        return Answer(Status.UNSUPPORTED, "give it to model.optimizer as its class calls it")
    return Answer(Status.TAKEN, "", {f"{optimizers.INIT}.{name}": setting.value})


def scheduler(value: Any, settings: Settings) -> Answer:
    """The schedule of the learning rate, after the warm-up."""
    if "SCHEDULE_FREE" in str(settings.get("optimizer.optimizer")):
        return Answer(Status.IGNORED, "a schedule-free optimiser has none")
    shapes = {"CONSTANT": "constant_with_warmup", "COSINE_WITH_HARD_RESTARTS": "cosine_with_restarts"}
    name = shapes.get(str(value), "" if value == "COSINE_WITH_RESTARTS" else str(value).lower())
    answer = optimizers.shape(name, "learning_rate_warmup_steps")
    return Answer(Status.TAKEN, "", answer.options) if answer.options else answer


def warmup(value: Any, settings: Settings) -> Answer:
    """Steps of the warm-up, counted in batches, or a share up to 1."""
    steps = number(value or 0)
    if steps <= 0 or not scheduler(settings.get("learning_rate_scheduler"), settings).options:
        return UNUSED
    if steps > 1:
        steps = int(steps / (settings.number("gradient_accumulation_steps") or 1))
    return Answer(Status.TAKEN, "", {"model.lr_scheduler.init_args.warmup": steps})


def cycles(value: Any, settings: Settings) -> Answer:
    """The number of cosines."""
    if settings.get("learning_rate_scheduler") != "COSINE_WITH_HARD_RESTARTS":
        return Answer(Status.IGNORED, "only COSINE_WITH_HARD_RESTARTS has cycles here")
    return Answer(Status.TAKEN, "", {"model.lr_scheduler.init_args.cycles": whole(value)})


def precision(value: Any, settings: Settings) -> Answer:
    """The type of what is computed."""
    if value == "BFLOAT_16":
        return Answer(Status.TAKEN, "", {"trainer.precision": "bf16-mixed", "model.base_dtype": "bfloat16"})
    if value == "FLOAT_16":
        note = "the frozen base stays in float32 and takes more memory"
        return Answer(Status.EQUIVALENT, note, {"trainer.precision": "16-mixed"})
    if value in ("FLOAT_32", "TFLOAT_32"):
        return Answer(Status.TAKEN, "", {"trainer.precision": "32-true"})
    return Answer(Status.UNSUPPORTED, "float32 is used; there are bf16-mixed and 16-mixed for trainer.precision")


def loss_weight(value: Any, settings: Settings) -> Answer:
    """Weights by timestep."""
    if value in ("CONSTANT", "MIN_SNR_GAMMA"):
        return Answer(Status.TAKEN, "" if value == "CONSTANT" else "see loss_weight_strength")
    if value == "DEBIASED_ESTIMATION":
        return Answer(Status.TAKEN, "", {"model.objective.debiased_estimation": True})
    return Answer(Status.UNSUPPORTED, "there are model.objective.min_snr_gamma and debiased_estimation")


def loss_strength(value: Any, settings: Settings) -> Answer:
    """Gamma of min-SNR."""
    if settings.get("loss_weight_fn") != "MIN_SNR_GAMMA":
        return Answer(Status.IGNORED, "loss_weight_fn is not MIN_SNR_GAMMA")
    return Answer(Status.TAKEN, "", {"model.objective.min_snr_gamma": number(value)})


def terminal(value: Any, settings: Settings) -> Answer:
    """Zero terminal SNR, for which OneTrainer lets any base predict v."""
    if not yes(value):
        return UNUSED
    if settings.get("model_type") != "STABLE_DIFFUSION_21":
        return Answer(Status.UNSUPPORTED, "only with a base that predicts v: model.objective.zero_terminal_snr")
    return Answer(Status.TAKEN, "", {"model.objective.zero_terminal_snr": True})


def strengths(value: Any, settings: Settings) -> Answer:
    """The range of timesteps."""
    bounds = [settings.number("min_noising_strength", 0.0), settings.number("max_noising_strength", 1.0)]
    if bounds == [0, 1]:
        return Answer(Status.TAKEN, "all timesteps, as here")
    return Answer(Status.TAKEN, "", {"model.objective.timestep_range": bounds})


def timesteps(value: Any, settings: Settings) -> Answer:
    """How timesteps are drawn."""
    plain = not settings.number("noising_weight", 0.0) and not settings.number("noising_bias", 0.0)
    if value == "UNIFORM" or (value == "LOGIT_NORMAL" and plain):
        return Answer(Status.TAKEN, "", {"model.objective.timesteps": str(value).lower()})
    note = "they are drawn uniformly; there are logit_normal, style and content for model.objective.timesteps"
    return Answer(Status.UNSUPPORTED, note)


def only_weighted(value: Any, settings: Settings) -> Answer:
    """What UNIFORM does not read."""
    if settings.get("timestep_distribution", "UNIFORM") == "UNIFORM":
        return Answer(Status.IGNORED, "timestep_distribution is UNIFORM")
    return Answer(Status.UNSUPPORTED, "distributions of timesteps have no weight and no bias here")
