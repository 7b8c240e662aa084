"""Table of kohya's sd-scripts, `train_network.py`: setting -> what becomes of it.

Keys with a dot are parts of lists: `network_args.conv_dim` is `conv_dim=...` in `network_args`.
"""

from __future__ import annotations

from stylelora.migration import captions, lycoris, optimizers
from stylelora.migration import kohya_data_rules as data
from stylelora.migration import kohya_objective_rules as objective
from stylelora.migration import kohya_rules as rules
from stylelora.migration.rows import (
    Row,
    above_0,
    as_here,
    as_number,
    as_switch,
    as_whole,
    count,
    equivalent,
    given,
    ignored,
    taken,
    unsupported,
    with_another,
)

UPLOAD = ignored("nothing is uploaded")
SPEED = ignored("it changes speed or memory of kohya's program only")
FLUX = ignored("not of SD 1.x")
_NOTES = "notes in the file come from the run"

TABLE: dict[str, Row] = (
    {
        # model
        "pretrained_model_name_or_path": taken("model.base", data.base),
        "v2": with_another("model.base", "read from the base"),
        "v_parameterization": with_another("model.base", "read from the base"),
        "clip_skip": taken("model.clip_skip", as_whole),
        "vae": unsupported("the base's own autoencoder is used; put this one into the base's folder"),
        "network_module": as_here("LoRA, as here"),
        "network_dim": taken("model.rank, model.text_encoder.rank", rules.network_dim),
        "network_alpha": taken("model.alpha, model.text_encoder.alpha", rules.network_alpha),
        "network_args.conv_dim": equivalent("model.lora.rank_pattern", "ranks of 3x3 convolutions", rules.conv_dim),
        "network_args.conv_alpha": equivalent(
            "model.lora.alpha_pattern", "alphas of 3x3 convolutions", rules.conv_alpha
        ),
        "network_args.module_dropout": taken("model.lora.module_dropout", above_0),
        "network_args.loraplus_lr_ratio": taken("model.lora_plus_ratio", above_0),
        "network_args.loraplus_unet_lr_ratio": taken("model.lora_plus_ratio", above_0),
        "network_args.loraplus_text_encoder_lr_ratio": unsupported("model.lora_plus_ratio is one for both"),
        "network_args.dora_wd": unsupported("there is no DoRA; a LoRA of the same rank is trained", "False", "false"),
        "network_args.algo": as_here("LoRA, as here"),
        "network_weights": taken("model.init_from", given),
        "dim_from_weights": unsupported("give model.rank and model.alpha those of the file"),
        "scale_weight_norms": unsupported("the LoRA's norm has no limit; a lower rate or fewer steps do much the same"),
        "base_weights": unsupported("blend them into one LoRA with merge and start from it (model.init_from)"),
        "base_weights_multiplier": unsupported("see base_weights"),
        "network_train_unet_only": taken("model.text_encoder.rank", rules.unet_only),
        "network_train_text_encoder_only": taken("", rules.text_encoder_only, "true is refused"),
        # optimiser
        "learning_rate": taken("model.optimizer, model.text_encoder.learning_rate", rules.learning_rate),
        "unet_lr": taken("model.optimizer", rules.unet_lr),
        "text_encoder_lr": taken("model.text_encoder.learning_rate", rules.text_encoder_lr),
        "optimizer_type": taken("model.optimizer", rules.optimizer_type),
        "use_8bit_adam": taken(
            "model.optimizer", lambda value, settings: optimizers.optimizer("AdamW8bit") if value else None
        ),
        "use_lion_optimizer": taken(
            "model.optimizer", lambda value, settings: optimizers.optimizer("Lion") if value else None
        ),
        "optimizer_args.relative_step": taken("model.optimizer", rules.relative_step),
        "optimizer_args": taken("model.optimizer", lambda value, settings: None, "each of them is an init_arg"),
        "network_args": as_here("see each of them"),
        "max_grad_norm": taken("trainer.gradient_clip_val", above_0),
        "lr_scheduler": taken("model.lr_scheduler", rules.lr_scheduler),
        "lr_warmup_steps": taken("model.lr_scheduler", rules.lr_warmup_steps),
        "lr_scheduler_num_cycles": taken("model.lr_scheduler", rules.num_cycles),
        "lr_scheduler_power": ignored("see lr_scheduler"),
        "lr_scheduler_type": unsupported("give model.lr_scheduler this class and its init_args"),
        "lr_scheduler_args": unsupported("they are init_args of model.lr_scheduler"),
        "lr_decay_steps": unsupported("there is no such schedule; model.lr_scheduler has decay, a share of the steps"),
        "lr_scheduler_timescale": unsupported("there is no such schedule"),
        "lr_scheduler_min_lr_ratio": unsupported("schedules fall to 0"),
        "fused_backward_pass": FLUX,
        # length and steps
        "max_train_steps": taken("trainer.max_steps", rules.max_train_steps),
        "max_train_epochs": taken("trainer.max_epochs", as_whole),
        "train_batch_size": taken("data.batch_size", as_whole),
        "gradient_accumulation_steps": taken("trainer.accumulate_grad_batches", as_whole),
        "gradient_checkpointing": taken("model.gradient_checkpointing", as_switch),
        "mixed_precision": taken("trainer.precision, model.base_dtype", rules.precision),
        "full_fp16": with_another("trainer.precision", "the LoRA stays in float32"),
        "full_bf16": with_another("trainer.precision", "the LoRA stays in float32"),
        "fp8_base": unsupported("the smallest type of the base is bfloat16: model.base_dtype"),
        "fp8_base_unet": unsupported("the smallest type of the base is bfloat16: model.base_dtype"),
        "no_half_vae": ignored("the autoencoder is always in float32"),
        "xformers": ignored("PyTorch's attention (sdpa) is always used"),
        "sdpa": ignored("PyTorch's attention (sdpa) is always used"),
        "mem_eff_attn": ignored("PyTorch's attention (sdpa) is always used"),
        "seed": taken("seed_everything", as_whole, "draws differ from kohya's all the same"),
        "resume": unsupported("a state of accelerate cannot be read; start from its LoRA by model.init_from"),
        "initial_epoch": unsupported("go on with a run of fit by --resume"),
        "initial_step": unsupported("go on with a run of fit by --resume"),
        "skip_until_initial_step": unsupported("go on with a run of fit by --resume"),
        # objective
        "min_snr_gamma": taken("model.objective.min_snr_gamma", above_0),
        "debiased_estimation_loss": taken("model.objective.debiased_estimation", objective.debiased),
        "noise_offset": taken("model.objective.noise_offset", above_0),
        "noise_offset_random_strength": unsupported("the offset is as strong for all; half of it is kohya's mean"),
        "adaptive_noise_scale": unsupported("the offset does not depend on the picture"),
        "multires_noise_iterations": equivalent(
            "model.objective.pyramid_iterations", "pyramid noise", objective.pyramid
        ),
        "multires_noise_discount": taken("model.objective.pyramid_discount", objective.discount),
        "ip_noise_gamma": taken("model.objective.input_perturbation", above_0),
        "ip_noise_gamma_random_strength": unsupported(
            "the perturbation is as strong for all; half of it is kohya's mean"
        ),
        "zero_terminal_snr": taken("model.objective.zero_terminal_snr", objective.terminal),
        "min_timestep": taken("model.objective.timestep_range", objective.timesteps),
        "max_timestep": taken("model.objective.timestep_range", objective.timesteps),
        "loss_type": taken("model.objective.loss, model.objective.huber_c", objective.loss_type),
        "huber_schedule": unsupported("huber_c is the same at all timesteps", convert=objective.huber_schedule),
        "huber_c": taken("model.objective.huber_c", objective.of_huber, "see loss_type"),
        "huber_scale": taken("model.objective.huber_c", objective.of_huber, "see loss_type"),
        "scale_v_pred_loss_like_noise_pred": unsupported("model.objective.min_snr_gamma 1 does much the same"),
        "v_pred_like_loss": unsupported("there is no such loss"),
        "masked_loss": taken("data.masks", data.masked_loss),
        "prior_loss_weight": taken("data.prior.weight", data.prior_weight),
        # data
        "train_data_dir": taken("data.root", data.train_data_dir),
        "image_dir": taken("data.root"),
        "num_repeats": taken("data.repeats", as_whole),
        "dataset_repeats": taken("data.repeats", as_whole),
        "reg_data_dir": equivalent(
            "data.prior.root",
            "each step takes as many of them as of the style; kohya mixes both in a batch, so halve data.batch_size",
            given,
        ),
        "conditioning_data_dir": taken("data.masks", data.mask_folder),
        "alpha_mask": taken("data.masks", data.alpha_mask),
        "dataset_config": with_another("", "read; its settings follow"),
        "in_json": unsupported("write file_name and text of each picture to metadata.jsonl beside the pictures"),
        "metadata_file": unsupported("write file_name and text of each picture to metadata.jsonl beside the pictures"),
        "dataset_class": unsupported("a data set of your own is a class of datamodules/, see docs/developing/add.md"),
        "class_tokens": equivalent(
            "data.root",
            "the caption of pictures without one, if it is in the name of their folder, 10_words",
            data.class_tokens,
        ),
        "named repeats": with_another("data.repeats", "the folder's name says it"),
        "is_reg": ignored("see its image_dir"),
        "reg_class_tokens": taken("data.prior.prompt", given, "class_tokens of an is_reg subset"),
        "another_subset": unsupported("fit reads one folder; put all below one, each named REPEATS_name"),
        "resolution": taken("data.resolution", data.resolution),
        "enable_bucket": taken("data.buckets", as_switch),
        "min_bucket_reso": equivalent("data.buckets", "half the resolution to twice", data.bucket_reso),
        "max_bucket_reso": equivalent("data.buckets", "half the resolution to twice", data.bucket_reso),
        "bucket_reso_steps": unsupported("sides are multiples of 64 px", 64),
        "bucket_no_upscale": taken("data.no_upscale", data.bucket_no_upscale),
        "resize_interpolation": unsupported("data.interpolation has nearest, box, bilinear, bicubic and lanczos"),
        "caption_extension": equivalent("", data.ENDINGS, data.caption_extension),
        "caption_extention": equivalent("", data.ENDINGS, data.caption_extension),
        "shuffle_caption": equivalent("data.keep_tags", "one of eight orders each time", data.shuffle_caption),
        "keep_tokens": taken("data.keep_tags", data.keep_tokens),
        "keep_tokens_separator": unsupported("give data.keep_tags the number of tags before it"),
        "caption_separator": unsupported("tags are divided by commas", ","),
        "secondary_separator": unsupported("tags are divided by commas"),
        "enable_wildcard": taken("data.wildcards", as_switch),
        "caption_prefix": equivalent("data.template", "prompts of samples get it, too", data.wording),
        "caption_suffix": equivalent("data.template", "prompts of samples get it, too", data.wording),
        "caption_dropout_rate": taken("model.caption_dropout", lambda value, settings: as_number(value or 0, settings)),
        "caption_tag_dropout_rate": taken("data.tag_dropout", above_0),
        "caption_dropout_every_n_epochs": unsupported("model.caption_dropout drops a share of the captions"),
        "token_warmup_min": unsupported("all tags are there from the start", 1),
        "token_warmup_step": unsupported("all tags are there from the start"),
        "max_token_length": unsupported("captions are cut after 75 tokens; put what matters first", 75),
        "weighted_captions": unsupported("brackets in captions are text"),
        "color_aug": unsupported("colours are not changed; a style consists of them"),
        "flip_aug": taken("data.flip", as_switch),
        "random_crop": unsupported("pictures are cropped in the middle"),
        "face_crop_aug_range": unsupported("pictures are cropped in the middle"),
        "validation_split": taken("data.held_out", data.validation_split),
        "validation_seed": ignored("a picture's content decides whether it is held out"),
        "validate_every_n_steps": unsupported("validation comes with the samples; see trainer.val_check_interval"),
        "validate_every_n_epochs": unsupported("validation comes every epoch; see trainer.check_val_every_n_epoch", 1),
        "max_validation_steps": unsupported("all held-out pictures are measured"),
        captions.ON_DISK: captions.row("kohya reads the first alone: keep only that"),
        "trigger word": equivalent("data.trigger, data.template", "the word that captions hold", data.trigger),
        # samples, files, logs
        "sample_prompts": taken("data.prompts_file", data.sample_prompts, data.SIZES),
        "sample_every_n_epochs": taken("model.sample_every_n_epochs", data.sample_every_n_epochs),
        "sample_every_n_steps": equivalent(
            "trainer.val_check_interval", "counted in batches", data.sample_every_n_steps
        ),
        "sample_at_first": unsupported("the base's pictures stand beside the first samples"),
        "sample_sampler": data.SAMPLER,
        "output_dir": with_another("trainer.default_root_dir", "see output_name"),
        "output_name": equivalent(
            "trainer.default_root_dir", "the LoRA is named like the run's folder", rules.output_name
        ),
        "save_every_n_epochs": taken("save_adapter.every_n_epochs", count),
        "save_every_n_steps": taken("save_adapter.every_n_steps", count),
        "save_n_epoch_ratio": unsupported("give save_adapter.every_n_epochs"),
        "save_precision": taken("save_adapter.dtype", data.save_precision),
        "save_model_as": unsupported("LoRAs are saved as safetensors", "safetensors"),
        "use_safetensors": ignored("LoRAs are saved as safetensors"),
        "save_last_n_epochs": unsupported("all are kept; delete what you do not need"),
        "save_last_n_steps": unsupported("all are kept; delete what you do not need"),
        "save_last_n_epochs_state": unsupported("the last state is kept: checkpoints/last.ckpt"),
        "save_last_n_steps_state": unsupported("the last state is kept: checkpoints/last.ckpt"),
        "save_state": with_another("last_checkpoint", "checkpoints/last.ckpt is always written"),
        "save_state_on_train_end": with_another("last_checkpoint", "checkpoints/last.ckpt is always written"),
        "sheets of samples": equivalent("", "none there; here about ten", data.ten_sheets),
        "scorer of samples": equivalent("clip_score.scorer", "samples are not scored", data.scorer),
        "kept LoRA": equivalent("model.keep", "the LoRA of the last step is the result, as in kohya"),
        "logging_dir": ignored("logs are in the run's folder; tensorboard --logdir runs shows them"),
        "log_with": taken("trainer.logger", data.log_with),
        "log_prefix": ignored("logs are in the run's folder"),
        "log_tracker_name": taken("trainer.logger", data.at_wandb, "see log_with"),
        "log_tracker_config": unsupported("options of a logger are those of trainer.logger"),
        "log_config": ignored("the whole config is logged and is in the run's folder"),
        "wandb_run_name": taken("trainer.logger", data.at_wandb, "see log_with"),
        "wandb_api_key": unsupported("set the variable WANDB_API_KEY instead"),
        "training_comment": ignored(_NOTES),
        "no_metadata": unsupported("the file always has notes on its training, without paths"),
    }
    | lycoris.TABLE
    | dict.fromkeys(
        ("metadata_author", "metadata_description", "metadata_license", "metadata_tags", "metadata_title"),
        ignored(_NOTES),
    )
    | dict.fromkeys(
        (
            *("huggingface_repo_id", "huggingface_repo_type", "huggingface_path_in_repo", "huggingface_token"),
            *("huggingface_repo_visibility", "save_state_to_huggingface", "resume_from_huggingface", "async_upload"),
        ),
        UPLOAD,
    )
    | dict.fromkeys(
        (
            *("cache_latents", "cache_latents_to_disk", "skip_cache_check", "vae_batch_size", "cache_info"),
            *("max_data_loader_n_workers", "persistent_data_loader_workers", "lowram", "highvram", "torch_compile"),
            *(
                "dynamo_backend",
                "ddp_timeout",
                "ddp_gradient_as_bucket_view",
                "ddp_static_graph",
                "tokenizer_cache_dir",
            ),
            *("cpu_offload_checkpointing", "deepspeed", "debug_dataset", "output_config", "network_multiplier"),
            *("disable_mmap_load_safetensors", "console_log_level", "console_log_file", "console_log_simple"),
        ),
        SPEED,
    )
)

#: Settings that count where a file does not have them.
DEFAULTS = {
    "pretrained_model_name_or_path": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "network_dim": 4,
    "network_alpha": 1,
    "learning_rate": 2e-6,
    "optimizer_type": "",
    "lr_scheduler": "constant",
    "max_grad_norm": 1.0,
    "max_train_steps": 1600,
    "train_batch_size": 1,
    "caption_dropout_rate": 0.0,
    "validation_split": 0.0,
    "kept LoRA": "last",
    "scorer of samples": None,
    "network_train_unet_only": False,
}
#: Rows of lists whose parts are free: prefix of the key -> answer.
OPEN = {"optimizer_args": optimizers.argument}
