"""Table of OneTrainer: setting -> what becomes of it, read in its `TrainConfig.py` and what uses it.

`concept.path` is `path` of the first concept that is trained, `sample.prompt` that of any sample.
"""

from __future__ import annotations

from stylelora.migration import captions
from stylelora.migration import onetrainer_data_rules as data
from stylelora.migration import onetrainer_rules as rules
from stylelora.migration.rows import (
    Row,
    above_0,
    as_here,
    as_number,
    as_switch,
    as_whole,
    equivalent,
    given,
    ignored,
    taken,
    unsupported,
    with_another,
)

_COLOURS = ("brightness", "contrast", "saturation", "hue")
_PART = ("model_name", "include", "weight_dtype", "attention_mask", "guidance_scale", "offload_fraction")
_LATER = unsupported("both parts are trained to the end", "NEVER")
_FIXED = unsupported("pictures are only resized, cropped and, with data.flip, mirrored")

TABLE: dict[str, Row] = (
    {
        # model
        "training_method": as_here("LoRA, as here; others are refused"),
        "peft_type": as_here("LoRA, as here; others are refused"),
        "model_type": with_another("model.base", "read from the base; others than SD 1.x and 2.x are refused"),
        "base_model_name": taken("model.base", rules.base),
        "lora_model_name": taken("model.init_from", given),
        "lora_rank": taken("model.rank, model.text_encoder.rank", rules.rank),
        "lora_alpha": taken("model.alpha, model.text_encoder.alpha", rules.alpha),
        "lora_decompose": unsupported("there is no DoRA; a LoRA of the same rank is trained"),
        "lora_decompose_norm_epsilon": ignored("see lora_decompose"),
        "lora_decompose_output_axis": ignored("see lora_decompose"),
        "lora_weight_dtype": unsupported("the LoRA is trained in float32", "FLOAT_32"),
        "dropout_probability": equivalent(
            "model.lora_dropout", "on the LoRA's input, not between its two matrices", above_0
        ),
        "layer_filter": taken("model.target_modules", rules.layer_filter),
        "layer_filter_preset": taken("model.target_modules", rules.layer_preset),
        "layer_filter_regex": unsupported("name the layers in model.target_modules"),
        "unet.train": taken("", rules.unet_train),
        "unet.learning_rate": taken("model.optimizer", rules.unet_rate),
        "unet.gradient_checkpointing": taken("model.gradient_checkpointing", as_switch),
        "unet.activation_offloading": unsupported("nothing is moved to the CPU; there is model.gradient_checkpointing"),
        "unet.stop_training_after": ignored("see its unit"),
        "unet.stop_training_after_unit": _LATER,
        "unet.dropout_probability": unsupported("there is model.lora_dropout"),
        "unet.train_embedding": ignored("embeddings are not trained"),
        "text_encoder.train": taken("model.text_encoder.rank", rules.text_train),
        "text_encoder.learning_rate": taken("model.text_encoder.learning_rate", rules.text_rate),
        "text_encoder.gradient_checkpointing": with_another("model.gradient_checkpointing", "one switch for both"),
        "text_encoder.activation_offloading": unsupported("nothing is moved to the CPU"),
        "text_encoder.stop_training_after": ignored("see its unit"),
        "text_encoder.stop_training_after_unit": unsupported(
            "both parts are trained to the end", "NEVER", convert=rules.text_stops
        ),
        "text_encoder.dropout_probability": unsupported("see model.caption_dropout", convert=rules.caption_dropout),
        "text_encoder.train_embedding": ignored("embeddings are not trained"),
        "text_encoder_layer_skip": equivalent("model.clip_skip", "one more: 1 is the last layer", rules.clip_skip),
        "gradient_checkpointing": taken("model.gradient_checkpointing", rules.checkpointing),
        "ema": taken("model.ema_decay", rules.ema),
        "ema_decay": with_another("model.ema_decay", "see ema"),
        "ema_update_step_interval": unsupported(
            "the average is taken after every step", 1, convert=rules.only_with_ema
        ),
        # optimiser and length
        "optimizer.optimizer": taken("model.optimizer", rules.optimizer),
        "learning_rate": taken("model.optimizer, model.text_encoder.learning_rate", rules.learning_rate),
        "learning_rate_scheduler": taken("model.lr_scheduler", rules.scheduler),
        "learning_rate_warmup_steps": taken("model.lr_scheduler", rules.warmup),
        "learning_rate_cycles": taken("model.lr_scheduler", rules.cycles),
        "learning_rate_min_factor": unsupported("schedules fall to 0"),
        "learning_rate_scaler": unsupported("the learning rate is not scaled; give the product", "NONE"),
        "custom_learning_rate_scheduler": unsupported("give model.lr_scheduler this class"),
        "scheduler_params": unsupported("they are init_args of model.lr_scheduler"),
        "clip_grad_norm": taken("trainer.gradient_clip_val", above_0),
        "epochs": taken("trainer.max_epochs", as_whole),
        "batch_size": taken("data.batch_size", as_whole),
        "gradient_accumulation_steps": taken("trainer.accumulate_grad_batches", as_whole),
        "train_dtype": taken("trainer.precision, model.base_dtype", rules.precision),
        "fallback_train_dtype": ignored("see train_dtype"),
        # objective
        "mse_strength": unsupported("there is one loss: model.objective.loss mse or huber", 1),
        "mae_strength": unsupported("there is one loss: model.objective.loss mse or huber"),
        "log_cosh_strength": unsupported("there is one loss: model.objective.loss mse or huber"),
        "huber_strength": unsupported("there is one loss: model.objective.loss mse or huber"),
        "huber_delta": ignored("see huber_strength"),
        "vb_loss_strength": ignored("SD 1.x predicts no variances"),
        "loss_weight_fn": taken("model.objective", rules.loss_weight),
        "loss_weight_strength": taken("model.objective.min_snr_gamma", rules.loss_strength),
        "loss_scaler": unsupported("the loss is not scaled, which AdamW does not notice", "NONE"),
        "offset_noise_weight": taken("model.objective.noise_offset", above_0),
        "generalized_offset_noise": unsupported("the offset is as strong at all timesteps"),
        "perturbation_noise_weight": unsupported(
            "model.objective.input_perturbation is for the input only, not for the target"
        ),
        "rescale_noise_scheduler_to_zero_terminal_snr": taken("model.objective.zero_terminal_snr", rules.terminal),
        "force_v_prediction": unsupported("the base says what it predicts"),
        "force_epsilon_prediction": unsupported("the base says what it predicts"),
        "min_noising_strength": taken("model.objective.timestep_range", rules.strengths),
        "max_noising_strength": taken("model.objective.timestep_range", rules.strengths),
        "timestep_distribution": taken("model.objective.timesteps", rules.timesteps),
        "noising_weight": unsupported("distributions of timesteps have no weight", convert=rules.only_weighted),
        "noising_bias": unsupported("distributions of timesteps have no bias", convert=rules.only_weighted),
        "timestep_shift": unsupported("timesteps are not shifted", 1),
        "dynamic_timestep_shifting": unsupported("timesteps are not shifted"),
        "masked_training": taken("data.masks", data.masks),
        "unmasked_probability": unsupported("the masks count always", convert=data.only_masked),
        "unmasked_weight": unsupported("make black parts of the masks grey", convert=data.only_masked),
        "normalize_masked_area_loss": unsupported("the mean is over the whole picture", convert=data.only_masked),
        "masked_prior_preservation_weight": unsupported("there are class pictures: data.prior"),
        "custom_conditioning_image": unsupported("bases with further inputs cannot be trained"),
        # data
        "resolution": taken("data.resolution", data.resolution),
        "aspect_ratio_bucketing": taken("data.buckets", as_switch),
        "concept_file_name": equivalent("", "read; its settings follow", data.file_of("concept")),
        "concept.name": with_another("data.trigger", "the run's trigger, if captions hold no other"),
        "concept.path": taken("data.root"),
        "concept.seed": ignored("see seed_everything"),
        "concept.enabled": as_here("it is trained"),
        "concept.type": as_here("it is trained"),
        "concept.include_subdirectories": with_another("data.root", "folders below it are read, too"),
        "concept.image_variations": ignored("pictures are cropped in the middle, so they have no variations"),
        "concept.text_variations": ignored("data.keep_tags has eight orders of tags"),
        "concept.balancing": taken("data.repeats", data.balancing),
        "concept.balancing_strategy": taken("data.repeats", data.balancing_strategy),
        "concept.loss_weight": unsupported("all pictures weigh the same", 1),
        "concept.concept_stats": ignored("it is no setting"),
        "concept.image.enable_crop_jitter": unsupported("pictures are cropped in the middle"),
        "concept.image.enable_random_flip": taken("data.flip", as_switch),
        "concept.image.enable_fixed_flip": _FIXED,
        "concept.image.enable_resolution_override": unsupported("one resolution for all: data.resolution"),
        "concept.image.resolution_override": ignored("see enable_resolution_override"),
        "concept.text.prompt_source": taken("", data.prompt_source, "captions beside the pictures"),
        "concept.text.prompt_path": ignored("see prompt_source"),
        "concept.text.enable_tag_shuffling": equivalent(
            "data.keep_tags", "one of eight orders each time", data.shuffling
        ),
        "concept.text.tag_delimiter": unsupported("tags are divided by commas", ","),
        "concept.text.keep_tags_count": taken("data.keep_tags", data.keep_tags),
        "concept.text.tag_dropout_enable": taken("data.tag_dropout", data.tag_dropout),
        "concept.text.tag_dropout_mode": unsupported(
            "tags are dropped one by one", "RANDOM", convert=data.only_tag_dropout
        ),
        "concept.text.tag_dropout_probability": with_another("data.tag_dropout", "see tag_dropout_enable"),
        "concept.text.tag_dropout_special_tags_mode": unsupported("data.keep_tags keeps leading tags", "NONE"),
        "concept.text.tag_dropout_special_tags": ignored("see tag_dropout_special_tags_mode"),
        "concept.text.tag_dropout_special_tags_regex": ignored("see tag_dropout_special_tags_mode"),
        "concept.text.caps_randomize_enable": unsupported("captions keep their letters; CLIP reads small ones anyway"),
        "disabled": ignored("this concept is not enabled"),
        "another_concept": unsupported("fit reads one folder; put all below one, each named REPEATS_name"),
        "validation_concept": unsupported("give data.held_out the share of pictures that are only measured"),
        captions.ON_DISK: captions.row("OneTrainer draws one of them, as data.wildcards true does"),
        "trigger word": equivalent("data.trigger, data.template", "the word that captions hold", data.trigger),
        "held-out pictures": taken("data.held_out", as_number, "all pictures are trained on; 0.2 would measure"),
        "dropout of captions": taken("model.caption_dropout", as_number),
        "scorer of samples": equivalent("clip_score.scorer", "samples are not scored", data.scorer),
        "kept LoRA": equivalent("model.keep", "the LoRA of the last step is the result, as in OneTrainer"),
        # samples and files
        "sample.prompt": taken("data.prompts_file", data.sample, many=True),
        "sample_definition_file_name": equivalent("", "read; its settings follow", data.file_of("sample")),
        "sample_after": ignored("see sample_after_unit"),
        "sample_after_unit": taken("model.sample_every_n_epochs, trainer.val_check_interval", data.sample_unit),
        "sample_skip_first": unsupported("samples come from the start"),
        "samples_to_tensorboard": as_here("samples are in TensorBoard"),
        "non_ema_sampling": ignored("with model.ema_decay, the average is what is sampled"),
        "save_every": ignored("see save_every_unit"),
        "save_every_unit": taken("save_adapter.every_n_epochs, save_adapter.every_n_steps", data.save_unit),
        "save_skip_first": unsupported("saving begins at the start"),
        "output_dtype": taken("save_adapter.dtype", data.output_dtype),
        "output_model_format": ignored("the file is safetensors, with kohya's names"),
        "output_model_destination": equivalent(
            "trainer.default_root_dir", "the LoRA is named like the run's folder", data.destination
        ),
        "validation": unsupported("give data.held_out the share of pictures that are only measured"),
        "tensorboard": taken("trainer.logger", lambda value, settings: None, "TensorBoard, as here"),
        "seed": taken("seed_everything", as_whole),
    }
    | {
        f"{part}.{key}": ignored("the base's own, in the type of model.base_dtype")
        for part in ("unet", "text_encoder")
        for key in _PART
    }
    | {
        f"concept.image.{kind}_{how}": _FIXED
        for how in ("rotate", *_COLOURS)
        for kind in ("enable_random", "enable_fixed")
    }
    | {
        f"concept.image.random_{name}": ignored("see the switch of it")
        for name in ("rotate_max_angle", *(f"{kind}_max_strength" for kind in _COLOURS))
    }
    | dict.fromkeys(
        ("concept.image.enable_random_circular_mask_shrink", "concept.image.enable_random_mask_rotate_crop"), _FIXED
    )
    | dict.fromkeys(
        (f"concept.text.caps_randomize_{key}" for key in ("mode", "probability", "lowercase")),
        ignored("see caps_randomize_enable"),
    )
    | dict.fromkeys(
        (f"sample.{key}" for key in data.SAMPLE_OPTIONS), with_another("data.prompts_file", "in the prompt's line")
    )
    | dict.fromkeys((f"sample.{key}" for key in data.SAMPLE_OTHERS), ignored("samples here have no such option"))
    | dict.fromkeys(
        (
            *(
                "prior",
                "transformer",
                "unconditional_transformer",
                "text_encoder_2",
                "text_encoder_3",
                "text_encoder_4",
            ),
            *("text_encoder_2_layer_skip", "text_encoder_3_layer_skip", "text_encoder_4_layer_skip", "effnet_encoder"),
            *("text_encoder_sequence_length", "text_encoder_2_sequence_length", "decoder", "decoder_text_encoder"),
            *("decoder_vqgan", "quantization", "frames", "oft_block_size", "oft_block_share", "oft_scaled", "lokr_dim"),
            *("lokr_decompose_both", "lokr_decompose_factor", "lokr_use_tucker", "lokr_weight_decompose"),
            *("lokr_dora_on_output", "lokr_full_matrix", "lokr_vec_trick", "force_circular_padding", "vae"),
            *("embedding", "additional_embeddings", "embedding_learning_rate", "preserve_embedding_norm"),
            *("embedding_weight_dtype", "bundle_additional_embeddings", "embeddings", "lokr_rank"),
        ),
        ignored("not of a LoRA of SD 1.x"),
    )
    | dict.fromkeys(
        (
            *(
                "debug_mode",
                "debug_dir",
                "workspace_dir",
                "cache_dir",
                "huggingface_cache_dir",
                "offline_mode",
                "compile",
            ),
            *(
                "tensorboard_expose",
                "tensorboard_always_on",
                "tensorboard_port",
                "validate_after",
                "validate_after_unit",
            ),
            *("continue_last_backup", "include_train_config", "prevent_overwrites", "gradient_reduce_precision"),
            *("fused_gradient_reduce", "async_gradient_reduce", "async_gradient_reduce_buffer", "async_offloading"),
            *("latent_caching", "clear_cache_before_training", "dataloader_threads", "train_device", "temp_device"),
            *("enable_autocast_cache", "only_cache", "attention_mechanism", "optimizer_defaults", "cloud", "secrets"),
            *("backup_after", "backup_after_unit", "rolling_backup", "rolling_backup_count", "backup_before_save"),
            *("save_filename_prefix", "sample_image_format", "sample_video_format", "sample_audio_format"),
            *("layer_offload_fraction", "enable_async_offloading", "enable_activation_offloading", "__version"),
            *("multi_gpu", "device_indexes", "samples", "concepts", "weight_dtype"),
        ),
        ignored("it changes speed, memory or places of OneTrainer's program only"),
    )
)

#: Settings that count where a file does not have them.
DEFAULTS = {
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "lora_rank": 16,
    "lora_alpha": 1.0,
    "layer_filter_preset": "full",
    "text_encoder.train": True,
    "learning_rate": 3e-6,
    "learning_rate_scheduler": "CONSTANT",
    "learning_rate_warmup_steps": 200.0,
    "optimizer.optimizer": "ADAMW",
    "epochs": 100,
    "batch_size": 1,
    "clip_grad_norm": 1.0,
    "train_dtype": "FLOAT_16",
    "resolution": "512",
    "aspect_ratio_bucketing": True,
    "unet.gradient_checkpointing": True,
    "concept.image.enable_random_flip": False,
    "held-out pictures": 0.0,
    "dropout of captions": 0.0,
    "kept LoRA": "last",
    "scorer of samples": None,
}
#: Rows of keys whose ends are free: prefix of the key -> answer.
OPEN = {"optimizer": rules.argument}
