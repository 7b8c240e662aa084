"""Rules of kohya's sd-scripts on pictures, captions, samples and files, read in its `train_util.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stylelora.data.captions import whole_word
from stylelora.migration import captions
from stylelora.migration.rows import NAMELESS, UNUSED, Answer, Settings, Status, number, unsupported, whole, yes
from stylelora.records import InputError

#: Hub id that is gone -> the same model elsewhere.
MOVED = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
DTYPES = {"float": "float32", "fp16": "float16", "bf16": "bfloat16"}
_LOGGERS = "lightning.pytorch.loggers"
#: Our own logger, where another stands beside it.
TENSORBOARD = {
    "class_path": f"{_LOGGERS}.TensorBoardLogger",
    "init_args": {"save_dir": "runs", "name": "", "version": "", "default_hp_metric": False},
}
#: CLIP that scores samples of Stable Diffusion, as in configs/train/sd15.
SCORER = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
ENDINGS = ".txt and .caption are read; where a picture has both, they must agree, or keep one"
SIZES = "--w and --h must be multiples of 64 for SD 1.5, not of 8"
SAMPLER = unsupported("samples are drawn with the base's own scheduler (SD 1.5: PNDM); predict has model.scheduler")
DTYPES |= {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16", "fp32": "float32"}


def base(value: Any, settings: Settings) -> Answer:
    """The base: a hub id, a folder or a file."""
    if not isinstance(value, str):
        raise InputError(f"{NAMELESS} is {value!r}; give a hub id, a folder or a file")
    if value in MOVED:
        return Answer(Status.EQUIVALENT, "that hub id is gone; this is the same model", {"model.base": MOVED[value]})
    if value.lower().endswith((".ckpt", ".pt", ".bin")):
        note = "such files can run code when they are loaded; save the model as .safetensors and name that"
        return Answer(Status.UNSUPPORTED, note, {"model.base": value})
    return Answer(Status.TAKEN, "", {"model.base": value})


def train_data_dir(value: Any, settings: Settings) -> Answer:
    """The folder above the `10_name` folders."""
    if settings.get("image_dir"):
        return Answer(Status.IGNORED, "the data set config counts")
    return Answer(Status.TAKEN, "10_name folders below it are read as kohya does", {"data.root": str(value)})


def resolution(value: Any, settings: Settings) -> Answer:
    """One number, `512,512`, or a list of two."""
    sides = value if isinstance(value, list) else str(value).split(",")
    sides = [whole(side, "resolution") for side in sides]
    if len(sides) > 2:
        raise InputError(f"resolution has {len(sides)} numbers; give one, or width and height")
    if len(set(sides)) == 1:
        return Answer(Status.TAKEN, "", {"data.resolution": sides[0]})
    side = 64 * max(1, round(math.sqrt(math.prod(sides)) / 64))
    return Answer(
        Status.UNSUPPORTED,
        f"only one side can be given; {side} px with data.buckets has about that area",
        {"data.resolution": side},
    )


def caption_extension(value: Any, settings: Settings) -> Answer:
    """Ending of caption files; ours are fixed."""
    if not value or f".{str(value).lower().lstrip('.')}" in (".txt", ".caption"):
        return Answer(Status.EQUIVALENT, ENDINGS)
    return Answer(Status.UNSUPPORTED, "captions are read from .txt and .caption; rename the files")


def class_tokens(value: Any, settings: Settings) -> Answer:
    """The caption of pictures without one."""
    name = str(settings.get("image_dir") or "")
    if Path(name).name.partition("_")[2] == value:
        return Answer(Status.EQUIVALENT, "of pictures without a caption, by the name of their folder")
    note = (
        f"every picture needs a caption; where there is none, write it to a .txt file, or name the folder 1_{value} "
        f"and give its parent as data.root"
    )
    return Answer(Status.UNSUPPORTED, note)


def shuffle_caption(value: Any, settings: Settings) -> Answer:
    """Tags in another order each time."""
    if not yes(value, "shuffle_caption"):
        return UNUSED
    keep = whole(settings.get("keep_tokens", 0), "keep_tokens")
    return Answer(Status.EQUIVALENT, "one of eight orders each time", {"data.keep_tags": keep})


def keep_tokens(value: Any, settings: Settings) -> Answer:
    """The number of leading tags that stay."""
    if not whole(value or 0, "keep_tokens"):
        return UNUSED
    if settings.on("shuffle_caption"):
        return Answer(Status.TAKEN, "data.keep_tags, see shuffle_caption")
    if settings.number("caption_tag_dropout_rate"):
        return Answer(
            Status.EQUIVALENT, "they are never dropped; the others are shuffled, too", {"data.keep_tags": whole(value)}
        )
    return Answer(Status.IGNORED, "it needs shuffle_caption or caption_tag_dropout_rate")


def wording(value: Any, settings: Settings) -> Answer:
    """Prefix and suffix of captions."""
    if not settings.get("caption_prefix") and not settings.get("caption_suffix"):
        return UNUSED
    around = [str(settings.get(key, "")).replace("{", "{{").replace("}", "}}") for key in _AROUND]
    template = f"{around[0]} {{text}} {around[1]}".strip()
    return Answer(Status.EQUIVALENT, "prompts of samples get it, too", {"data.template": template})


_AROUND = ("caption_prefix", "caption_suffix")


def trigger(value: Any, settings: Settings) -> Answer:
    """The trigger word, which captions hold by themselves, so the template adds nothing."""
    around = " ".join(str(settings.get(key, "")) for key in _AROUND).strip()
    options = {"data.trigger": value} | ({} if around else {"data.template": "{text}"})
    if whole_word(value).search(around):
        return Answer(Status.EQUIVALENT, "of caption_prefix or caption_suffix", options)
    return captions.trigger(value, settings, options)


def bucket_reso(value: Any, settings: Settings) -> Answer:
    """Least and greatest side of buckets; ours are half the resolution and twice."""
    if not settings.on("enable_bucket"):
        return Answer(Status.IGNORED, "enable_bucket is off")
    sides = str(settings.get("resolution", 512)).strip("[]").split(",")
    area = math.prod(whole(side, "resolution") for side in (sides if len(sides) == 2 else sides * 2))
    least, greatest = settings.number("min_bucket_reso", 256), settings.number("max_bucket_reso", 1024)
    least, greatest = max(least, area / greatest), min(greatest, area / least)
    side = math.sqrt(area)
    if abs(least - side / 2) < 64 and abs(greatest - side * 2) < 64:
        return Answer(Status.EQUIVALENT, "sides are from half the resolution to twice, as the area allows")
    return Answer(Status.UNSUPPORTED, "sides of buckets are from half the resolution to twice")


def bucket_no_upscale(value: Any, settings: Settings) -> Answer:
    """Never enlarge a picture."""
    if yes(value) and not settings.on("enable_bucket"):
        return Answer(Status.IGNORED, "enable_bucket is off")
    return Answer(Status.TAKEN, "", {"data.no_upscale": yes(value)})


def masked_loss(value: Any, settings: Settings) -> Answer:
    """Loss only where masks are."""
    if not yes(value, "masked_loss"):
        return UNUSED
    if not settings.get("conditioning_data_dir") and not settings.on("alpha_mask"):
        return Answer(Status.IGNORED, "it needs conditioning_data_dir or alpha_mask")
    return Answer(Status.EQUIVALENT, "see the masks; the mean is over their area, not over the picture")


def mask_folder(value: Any, settings: Settings) -> Answer:
    """Masks in files."""
    if not value:
        return UNUSED
    if not settings.on("masked_loss"):
        return Answer(Status.IGNORED, "masked_loss is off")
    return Answer(Status.TAKEN, "", {"data.masks": str(value)})


def alpha_mask(value: Any, settings: Settings) -> Answer:
    """Masks in the alpha channel."""
    return Answer(Status.TAKEN, "", {"data.masks": "alpha"}) if yes(value) else UNUSED


def prior_weight(value: Any, settings: Settings) -> Answer:
    """The weight of class pictures."""
    if not settings.get("reg_data_dir"):
        return Answer(Status.IGNORED, "there are no class pictures (reg_data_dir)")
    return Answer(Status.TAKEN, "", {"data.prior.weight": number(value, "prior_loss_weight")})


def validation_split(value: Any, settings: Settings) -> Answer:
    """The share of pictures that are only measured."""
    share = number(value or 0, "validation_split")
    note = "" if share else "all pictures are trained on, so nothing is measured; data.held_out 0.2 would measure"
    return Answer(Status.TAKEN, note, {"data.held_out": share})


def sample_prompts(value: Any, settings: Settings) -> Answer:
    """The prompts of samples: a file, or lines as the GUI has them."""
    if not value:
        return UNUSED
    if isinstance(value, list):
        lines = [line.strip() for line in value if line.strip()]
        return Answer(Status.TAKEN, f"their lines are written to a file beside the config; {SIZES}", {}, lines)
    return Answer(Status.TAKEN, SIZES, {"data.prompts_file": str(value)})


def sample_every_n_epochs(value: Any, settings: Settings) -> Answer:
    """Samples every n epochs."""
    if not value or number(value) <= 0:
        return UNUSED
    return Answer(Status.TAKEN, "", {"model.sample_every_n_epochs": whole(value)})


def sample_every_n_steps(value: Any, settings: Settings) -> Answer:
    """Samples every n steps of the optimiser; validation is counted in batches here."""
    if not value or number(value) <= 0:
        return UNUSED
    if settings.number("sample_every_n_epochs"):
        return Answer(Status.IGNORED, "sample_every_n_epochs counts")
    batches = whole(value) * whole(settings.get("gradient_accumulation_steps", 1) or 1)
    options = {"trainer.val_check_interval": batches, "trainer.check_val_every_n_epoch": None}
    return Answer(Status.EQUIVALENT, "counted in batches; gradient_accumulation_steps of them are a step", options)


def ten_sheets(value: Any, settings: Settings) -> Answer:
    """Samples for a config that has none, as often as our own configs draw them."""
    note = "none there; here about ten times, and at the end"
    if epochs := settings.number("max_train_epochs"):
        return Answer(Status.EQUIVALENT, note, {"model.sample_every_n_epochs": max(1, int(epochs) // 10)})
    batches = whole(settings.get("max_train_steps")) * whole(settings.get("gradient_accumulation_steps", 1) or 1)
    options = {"trainer.val_check_interval": max(1, batches // 10), "trainer.check_val_every_n_epoch": None}
    return Answer(Status.EQUIVALENT, note, options)


def scorer(value: Any, settings: Settings) -> Answer:
    """The CLIP that scores samples, which other trainers do not have."""
    note = f"samples are not scored; with {SCORER}, a download, they are"
    return Answer(Status.EQUIVALENT, note, {"clip_score.scorer": None})


def save_precision(value: Any, settings: Settings) -> Answer:
    """The type of saved weights."""
    if value in (None, ""):
        return Answer(Status.TAKEN, "the LoRA's own, float32, as here")
    if value not in DTYPES:
        return Answer(Status.UNSUPPORTED, f"there are {', '.join(sorted({*DTYPES.values()}))}")
    return Answer(Status.TAKEN, "", {"save_adapter.dtype": DTYPES[value]})


def log_with(value: Any, settings: Settings) -> Answer:
    """The loggers."""
    if value in (None, "", "tensorboard"):
        return Answer(Status.TAKEN, "TensorBoard, as here")
    one = wandb(settings.get("log_tracker_name", "network_train"), settings.get("wandb_run_name"))
    if value == "wandb":
        return Answer(Status.TAKEN, "pip install wandb", {"trainer.logger": one})
    if value == "all":
        return Answer(Status.TAKEN, "pip install wandb", {"trainer.logger": [TENSORBOARD, one]})
    return Answer(Status.UNSUPPORTED, "TensorBoard is used; for others see docs/how-to/loggers.md")


def wandb(project: str, name: str | None) -> dict[str, Any]:
    """Return the logger of Weights & Biases; without a name, a run is called like its folder."""
    return {
        "class_path": f"{_LOGGERS}.WandbLogger",
        "init_args": {"project": project} | ({"name": name} if name else {}),
    }


def at_wandb(value: Any, settings: Settings) -> Answer:
    """What is for Weights & Biases only."""
    if settings.get("log_with") in ("wandb", "all"):
        return Answer(Status.TAKEN, "see log_with")
    return Answer(Status.IGNORED, "log_with is not wandb")
