"""Rules of OneTrainer on pictures, captions, samples and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stylelora.migration import kohya_data_rules
from stylelora.migration.rows import UNUSED, Answer, Settings, Status, number, whole, yes

DTYPES = {"FLOAT_32": "float32", "FLOAT_16": "float16", "BFLOAT_16": "bfloat16", "TFLOAT_32": "float32"}
SAMPLE_OPTIONS = (
    "negative_prompt",
    "height",
    "width",
    "seed",
    "diffusion_steps",
    "cfg_scale",
    "random_seed",
    "enabled",
)
SAMPLE_OTHERS = (
    *("frames", "length", "noise_scheduler", "text_encoder_1_layer_skip", "text_encoder_1_sequence_length"),
    *("text_encoder_2_layer_skip", "text_encoder_2_sequence_length", "text_encoder_3_layer_skip"),
    *("text_encoder_4_layer_skip", "transformer_attention_mask", "force_last_timestep", "sample_inpainting"),
    *("base_image_path", "mask_image_path"),
)

trigger, scorer = kohya_data_rules.trigger, kohya_data_rules.scorer


def resolution(value: Any, settings: Settings) -> Answer:
    """One side, several, or width and height."""
    sides = [side.strip() for side in str(value).replace("x", ",").split(",")]
    found = whole(sides[0], "resolution")
    if len(set(sides)) == 1:
        return Answer(Status.TAKEN, "", {"data.resolution": found})
    return Answer(Status.UNSUPPORTED, "there is one resolution; the first is taken", {"data.resolution": found})


def file_of(what: str) -> Any:
    """Return the converter of a setting that names another file."""

    def convert(value: Any, settings: Settings) -> Answer:
        if any(setting.key.startswith(f"{what}.") for setting in settings.all):
            return Answer(Status.EQUIVALENT, "its settings are here, too")
        return Answer(Status.UNSUPPORTED, f"there is no such file beside this one; {_TO_DO[what]}")

    return convert


_TO_DO = {"concept": "give data.root", "sample": "give data.prompts_file"}


def balancing(value: Any, settings: Settings) -> Answer:
    """How often pictures are repeated; OneTrainer repeats fractions of a set, too."""
    if settings.get("concept.balancing_strategy", "REPEATS") != "REPEATS":
        return Answer(Status.UNSUPPORTED, "data.repeats is a number of times; all pictures are shown")
    count = number(value)
    if count != int(count) or count < 1:
        return Answer(Status.UNSUPPORTED, "data.repeats is a whole number", {"data.repeats": max(1, round(count))})
    return Answer(Status.TAKEN, "", {"data.repeats": int(count)})


def balancing_strategy(value: Any, settings: Settings) -> Answer:
    """What balancing counts."""
    if value == "REPEATS":
        return Answer(Status.TAKEN, "as data.repeats")
    return Answer(Status.UNSUPPORTED, "data.repeats is a number of times")


def prompt_source(value: Any, settings: Settings) -> Answer:
    """Where captions are."""
    if value == "sample":
        return Answer(Status.TAKEN, "captions are in .txt files beside the pictures")
    note = "write captions into .txt files beside the pictures, or take file names: preprocess --captions filename"
    return Answer(Status.UNSUPPORTED, note)


def shuffling(value: Any, settings: Settings) -> Answer:
    """Tags in another order each time."""
    if not yes(value):
        return UNUSED
    keep = whole(settings.get("concept.text.keep_tags_count", 1))
    return Answer(Status.EQUIVALENT, "one of eight orders each time", {"data.keep_tags": keep})


def keep_tags(value: Any, settings: Settings) -> Answer:
    """The number of leading tags that stay."""
    if settings.on("concept.text.enable_tag_shuffling"):
        return Answer(Status.TAKEN, "data.keep_tags, see enable_tag_shuffling")
    if settings.on("concept.text.tag_dropout_enable"):
        note = "they are never dropped; the others are shuffled, too"
        return Answer(Status.EQUIVALENT, note, {"data.keep_tags": whole(value)})
    return Answer(Status.IGNORED, "enable_tag_shuffling is off")


def tag_dropout(value: Any, settings: Settings) -> Answer:
    """Tags that are left out, one by one."""
    if not yes(value):
        return UNUSED
    share = settings.number("concept.text.tag_dropout_probability", 0.0)
    if settings.get("concept.text.tag_dropout_mode", "FULL") != "RANDOM":
        return Answer(Status.UNSUPPORTED, "tags are dropped one by one: data.tag_dropout")
    return Answer(Status.TAKEN, "", {"data.tag_dropout": share})


def only_tag_dropout(value: Any, settings: Settings) -> Answer:
    """What counts only where tags are dropped."""
    if not settings.on("concept.text.tag_dropout_enable"):
        return Answer(Status.IGNORED, "tag_dropout_enable is off")
    return Answer(Status.UNSUPPORTED, "see tag_dropout_enable")


def masks(value: Any, settings: Settings) -> Answer:
    """Masks, which OneTrainer finds beside the pictures, as NAME-masklabel.png."""
    if not yes(value):
        return UNUSED
    note = "put the masks (NAME-masklabel.png) into a folder of their own as NAME.png, and give it as data.masks"
    return Answer(Status.UNSUPPORTED, note)


def only_masked(value: Any, settings: Settings) -> Answer:
    """What counts only with masks."""
    if not settings.on("masked_training"):
        return Answer(Status.IGNORED, "masked_training is off")
    return Answer(Status.UNSUPPORTED, "masks are taken as they are, and the mean is over the whole picture")


def every(value: Any, settings: Settings, name: str, epochs: str, steps: dict[str, Any]) -> Answer:
    """Return the options for something that happens every n epochs or steps."""
    count = whole(settings.get(name, 0) or 0, name)
    if value == "NEVER" or (value in ("EPOCH", "STEP") and not count):
        return UNUSED
    if value == "EPOCH":
        return Answer(Status.TAKEN, "", {epochs: count})
    if value == "STEP":
        return Answer(Status.TAKEN, "", {key: count if one == "count" else one for key, one in steps.items()})
    return Answer(Status.UNSUPPORTED, "count epochs or steps, not time")


def sample_unit(value: Any, settings: Settings) -> Answer:
    """When samples are drawn."""
    steps = {"trainer.val_check_interval": "count", "trainer.check_val_every_n_epoch": None}
    return every(value, settings, "sample_after", "model.sample_every_n_epochs", steps)


def save_unit(value: Any, settings: Settings) -> Answer:
    """When LoRAs are saved."""
    answer = every(value, settings, "save_every", "save_adapter.every_n_epochs", {_SAVE: "count"})
    batches = whole(settings.get("gradient_accumulation_steps", 1) or 1)
    if _SAVE not in answer.options or batches == 1:
        return answer
    steps = max(1, answer.options[_SAVE] // batches)
    return Answer(Status.EQUIVALENT, "in steps of the optimiser; OneTrainer counts batches", {_SAVE: steps})


_SAVE = "save_adapter.every_n_steps"


def output_dtype(value: Any, settings: Settings) -> Answer:
    """The type of saved weights."""
    if value not in DTYPES:
        return Answer(Status.UNSUPPORTED, "there are float32, float16 and bfloat16 for save_adapter.dtype")
    return Answer(Status.TAKEN, "", {"save_adapter.dtype": DTYPES[value]})


def destination(value: Any, settings: Settings) -> Answer:
    """The file of the LoRA: ours is named like the run's folder."""
    path = Path(str(value))
    folder = path.parent / path.stem
    note = f"the LoRA is {folder}/{path.stem}.safetensors"
    return Answer(Status.EQUIVALENT, note, {"trainer.default_root_dir": str(folder)})


def sample(value: Any, settings: Settings) -> Answer:
    """A prompt with its options, as a line."""
    return (
        Answer(Status.TAKEN, "a line of a file beside the config", {}, [value])
        if value
        else Answer(Status.IGNORED, "not enabled")
    )
