"""Table of the kohya_ss GUI: what it makes of each of its settings for sd-scripts, read in its `lora_gui.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stylelora.migration import kohya, layers
from stylelora.migration.kohya_read import beside, data_sets, refuse_others, toml, with_defaults
from stylelora.migration.optimizers import pairs
from stylelora.migration.rows import Row, Setting, Settings, as_here, ignored, number, same, unsupported, yes
from stylelora.records import InputError

#: Switch of another architecture -> its name.
OTHERS = {
    "sdxl": "SDXL",
    "flux1_checkbox": "FLUX",
    "sd3_checkbox": "SD 3",
    "hunyuan_image_checkbox": "HunyuanImage",
    "anima_checkbox": "Anima",
    "lumina_checkbox": "Lumina",
}
#: LoRA_type -> whether conv_dim counts.
TYPES = {"Standard": False, "Kohya LoCon": True, "LoCon": True, "LyCORIS/LoCon": True}
_LYCORIS = ("use_tucker", "use_cp", "use_scalar", "rank_dropout_scale", "train_norm", "bypass_mode", "dora_wd")
_BLOCKS = (
    *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
    *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
)
#: Settings of other architectures, or of other kinds of adapters, by how their names begin or as they are.
_ELSEWHERE = ("sdxl_", "flux1_", "sd3_", "hunyuan_", "anima_", "lumina_", "img_", "txt_", "single_", "double_", "ggpo_")
_ELSEWHERE_TOO = (
    *("ae", "clip_l", "clip_g", "t5xxl", "t5xxl_lr", "t5xxl_device", "t5xxl_dtype", "t5xxl_max_token_length"),
    *("discrete_flow_shift", "model_prediction_type", "timestep_sampling", "split_mode", "train_blocks", "model_type"),
    *("enable_all_linear", "guidance_scale", "mem_eff_save", "apply_t5_attn_mask", "split_qkv", "train_t5xxl"),
    *("blocks_to_swap", "show_timesteps", "show_timesteps_resolution", "in_dims", "train_double_block_indices"),
    *("train_single_block_indices", "clip_g_dropout_rate", "logit_mean", "logit_std", "mode_scale", "weighting_scheme"),
    *("pos_emb_random_crop_rate", "save_clip", "save_t5xxl", "train_lora_ggpo"),
    *("factor", "constrain", "rescaled", "decompose_both", "train_on_input", "unit"),
)
#: Settings of the GUI alone.
TABLE: dict[str, Row] = (
    kohya.TABLE
    | {
        "LoRA_type": as_here("LoRA, as here; other kinds are refused"),
        "additional_parameters": unsupported("put them into the file, or find each in docs/reference/migrating.md"),
        "stop_text_encoder_training": unsupported("the text encoder is trained to the end, as the GUI itself does now"),
        "no_token_padding": unsupported("captions are padded to 75 tokens"),
        "train_inpainting": unsupported("bases for inpainting cannot be trained"),
        "noise_offset_type": as_here("says which of the noise settings count"),
        "model_list": ignored("pretrained_model_name_or_path counts"),
        "lowvram": ignored("the GUI does not pass it on"),
        "LoRA_network_weights": ignored("network_weights counts"),
        "epoch": ignored("max_train_epochs or max_train_steps counts"),
    }
    | dict.fromkeys(OTHERS, as_here("SD 1.x, as here; others are refused"))
    | dict.fromkeys(_LYCORIS, unsupported("an option of LyCORIS; a plain LoRA is trained"))
    | dict.fromkeys(_BLOCKS, unsupported("ranks by layer are model.lora.rank_pattern; rates are one for all layers"))
    | dict.fromkeys(_ELSEWHERE_TOO, ignored("not of SD 1.x, or of another kind of adapter"))
    | dict.fromkeys(
        (
            *("num_cpu_threads_per_process", "num_processes", "num_machines", "multi_gpu", "gpu_ids"),
            *("main_process_port", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"),
            "extra_accelerate_launch_args",
        ),
        ignored("of accelerate, which is not used here; several GPUs are trainer.devices"),
    )
)

Gui = Mapping[str, Any]
#: Setting of the GUI -> setting of sd-scripts, and what it makes of the value; None: it does not pass it on.
TO: dict[str, tuple[str, Callable[[Any, Gui], Any]]] = {
    "max_resolution": ("resolution", lambda value, gui: value),
    "optimizer": ("optimizer_type", lambda value, gui: value),
    "lora_network_weights": ("network_weights", lambda value, gui: value or None),
    "lr_warmup": ("lr_warmup_steps", lambda value, gui: None if _has(gui, "lr_warmup_steps") else _share(value)),
    "lr_warmup_steps": ("lr_warmup_steps", lambda value, gui: int(number(value or 0)) or None),
    "lr_scheduler_num_cycles": (
        "lr_scheduler_num_cycles",
        lambda value, gui: gui.get("epoch") if value == "" else value,
    ),
    "epoch": ("max_train_epochs", lambda value, gui: None if _length(gui) else value),
    "max_train_epochs": ("max_train_epochs", lambda value, gui: value or None),
    "max_train_steps": ("max_train_steps", lambda value, gui: value or None),
    "sample_prompts": ("sample_prompts", lambda value, gui: str(value or "").splitlines() or None),
    "noise_offset": ("noise_offset", lambda value, gui: value if _offset(gui) else None),
    "adaptive_noise_scale": ("adaptive_noise_scale", lambda value, gui: value if _offset(gui) else None),
    "multires_noise_iterations": ("multires_noise_iterations", lambda value, gui: None if _offset(gui) else value),
    "multires_noise_discount": ("multires_noise_discount", lambda value, gui: None if _offset(gui) else value),
    "conv_dim": ("network_args.conv_dim", lambda value, gui: value if _conv(gui) else None),
    "conv_alpha": ("network_args.conv_alpha", lambda value, gui: value if _conv(gui) else None),
    "LyCORIS_preset": ("network_args.preset", lambda value, gui: value if _lycoris(gui) else None),
    "rank_dropout": ("network_args.rank_dropout", lambda value, gui: value or None),
    "module_dropout": ("network_args.module_dropout", lambda value, gui: value or None),
    "loraplus_lr_ratio": ("network_args.loraplus_lr_ratio", lambda value, gui: value or None),
    "loraplus_unet_lr_ratio": ("network_args.loraplus_unet_lr_ratio", lambda value, gui: value or None),
    "loraplus_text_encoder_lr_ratio": (
        "network_args.loraplus_text_encoder_lr_ratio",
        lambda value, gui: value or None,
    ),
    "use_wandb": ("log_with", lambda value, gui: "wandb" if value else None),
    "seed": ("seed", lambda value, gui: None if value in ("", None) or same(value, 0) else value),
    "clip_skip": ("clip_skip", lambda value, gui: value or None),
    "unet_lr": ("unet_lr", lambda value, gui: None if _zero(value) else value),
    "text_encoder_lr": ("text_encoder_lr", lambda value, gui: None if _zero(value) else value),
}
_NOT_PASSED = "the GUI does not pass it on"


def is_gui(config: Mapping) -> bool:
    """Return whether a JSON is one of the GUI."""
    return "pretrained_model_name_or_path" in config or "LoRA_type" in config


def read(config: Gui, path: Path) -> list[Setting]:
    """Return the settings of sd-scripts that the GUI makes of its own.

    Raises:
        InputError: if it trains something else, or a file that it names is not there.
    """
    for switch, kind in OTHERS.items():
        if switch in config and yes(config[switch], switch):
            raise InputError(f"{path} trains {kind}; fit trains Stable Diffusion 1.x and 2.x only")
    kind = config.get("LoRA_type")
    if kind is None:
        raise InputError(f"{path} is of the GUI's Dreambooth or Finetune page; fit trains LoRAs only")
    if kind not in TYPES:
        raise InputError(f"{path} does not train a LoRA but {kind}; set LoRA_type to Standard or Kohya LoCon")
    settings: list[Setting] = []
    for name, value in config.items():
        if name in ("optimizer_args", "lr_scheduler_args"):
            words = pairs(name, name, value if isinstance(value, list) else str(value or ""))
            settings += words or [Setting(name, name, value)]
            continue
        key, make = TO.get(name, (name, lambda value, gui: value))
        made = make(value, config)
        if name in TO and made is None:
            settings.append(Setting(name, "not passed on", value))
        elif name in TO:
            settings.append(Setting(name, key, made, read=value))
        else:
            elsewhere = name.startswith(_ELSEWHERE) and name not in TABLE
            settings.append(Setting(name, "ae" if elsewhere else name, value))
    if _lycoris(config):
        settings.append(Setting("network_module", "network_module", layers.LYCORIS[0], given=False))
    if file := config.get("dataset_config"):
        settings += data_sets(toml(beside(str(file), path)), general=True)
    only = _zero(config.get("text_encoder_lr")) and not _zero(config.get("unet_lr"))
    settings.append(Setting("network_train_unet_only", "network_train_unet_only", only, given=False))
    if not _zero(config.get("text_encoder_lr")) and _zero(config.get("unet_lr")):
        raise InputError(
            f"{path} has unet_lr 0, so only the text encoder is trained; fit trains the UNet, so give it a rate"
        )
    settings = with_defaults(settings, path)
    refuse_others(Settings(settings), path)
    return settings


TABLE["not passed on"] = ignored(_NOT_PASSED)


def _zero(value: Any) -> bool:
    return value in (None, "") or same(value, 0)


def _has(gui: Gui, name: str) -> bool:
    return not _zero(gui.get(name))


def _length(gui: Gui) -> bool:
    return _has(gui, "max_train_steps") or _has(gui, "max_train_epochs")


def _share(value: Any) -> float | None:
    return number(value or 0, "lr_warmup") / 100 or None


def _offset(gui: Gui) -> bool:
    return gui.get("noise_offset_type", "Original") == "Original"


def _lycoris(gui: Gui) -> bool:
    return gui.get("LoRA_type") == "LyCORIS/LoCon"


def _conv(gui: Gui) -> bool:
    return TYPES.get(gui.get("LoRA_type"), False)
