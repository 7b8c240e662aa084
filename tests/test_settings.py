"""The settings of a typical config of kohya's, and the test of each that fails when the option does nothing."""

import ast

import pytest

from tests.runs import ROOT

SETTINGS = {
    "SD 1.5, a folder": "lightning_modules/test_style_lora.py::test_optimiser_gets_the_adapter_alone",
    "SD 1.5, a single file": "lightning_modules/test_single_file_base.py::test_a_fit_is_the_same_bit_for_bit",
    "resolution": "datamodules/contract.py::test_a_training_batch",
    "batch size": "datamodules/contract.py::test_a_training_batch",
    "repeats": "datamodules/test_repeats_and_captions.py::test_the_repeats_of_a_folder_are_those_of_the_option",
    "10_name": "datamodules/test_repeats_and_captions.py::"
    "test_each_picture_is_shown_as_often_as_its_folder_and_its_row_say",
    "dim": "stylelora/test_lora_options.py::test_patterns_are_kohyas_conv_dim_and_conv_alpha",
    "alpha": "stylelora/test_lora_options.py::test_given_alpha_holds_where_no_pattern_says_otherwise",
    "unet lr": "stylelora/test_migration_kohya.py::test_each_part_has_its_learning_rate",
    "text encoder lr": "stylelora/test_lora_parameter_groups.py::test_the_text_encoder_has_its_own",
    "cosine with restarts": "stylelora/test_schedules.py::test_the_rates_are_those_of_diffusers",
    "warm-up": "stylelora/test_schedules.py::test_a_share_of_warm_up_is_of_all_steps",
    "AdamW8bit": "test_optimisers.py::test_an_optimiser_is_built_as_written_and_lowers_a_loss",
    "Prodigy": "test_optimisers.py::test_an_optimiser_trains_and_resumes",
    "min_snr_gamma": "stylelora/test_diffusion_objective.py::test_min_snr_weights_are_those_of_the_diffusers_scripts",
    "noise_offset": "stylelora/test_diffusion_objective.py::test_noise_offset_shifts_whole_channels_by_its_share",
    "shuffle_caption": "datamodules/test_styles.py::test_tags_are_shown_in_other_orders_in_other_epochs",
    "keep_tokens": "stylelora/test_data_captions.py::test_tags_change_places_and_the_first_stay",
    "flip_aug": "datamodules/contract.py::test_pictures_are_flipped_half_of_the_time",
    "enable_bucket": "datamodules/contract.py::test_buckets",
    "caption dropout": "lightning_modules/test_style_lora.py::"
    "test_captions_are_dropped_while_training_and_never_while_measuring",
    "network dropout": "lightning_modules/test_style_lora.py::test_dropout_works_and_validation_is_free_of_it",
    "save every n": "lightning_modules/test_style_lora.py::"
    "test_adapters_of_every_nth_step_and_epoch_are_files_with_no_number_of_others",
    "sample prompts file": "lightning_modules/test_sample_prompts.py::test_a_file_of_prompts",
    "negative prompt": "lightning_modules/test_sample_prompts.py::"
    "test_samples_have_each_option_and_others_the_defaults",
    "max_train_steps": "callbacks/test_end_training.py::"
    "test_steps_on_the_command_line_are_not_capped_by_a_configs_epochs",
    "gradient checkpointing": "lightning_modules/test_memory.py::"
    "test_checkpointing_keeps_less_and_gives_the_same_gradients",
    "bf16": "lightning_modules/test_memory.py::test_a_whole_run_in_bfloat16",
    "clip_skip": "lightning_modules/test_clip_skip.py::test_training_uses_it_and_the_file_says_so",
    "v_parameterization": "stylelora/test_diffusion.py::test_targets_are_those_of_diffusers",
    "conv_dim, conv_alpha": "stylelora/test_lora_options.py::test_patterns_are_kohyas_conv_dim_and_conv_alpha",
    "network_weights": "stylelora/test_lora_continued.py::test_the_module_continues_it",
    "resume": "lightning_modules/test_style_lora.py::test_a_resumed_run_equals_a_straight_one",
    "save fp16": "stylelora/test_lora_write.py::test_a_smaller_type_rounds_the_weights_and_keeps_alpha",
    "reg_data_dir": "lightning_modules/test_masks_and_prior.py::"
    "test_a_steps_loss_is_the_styles_plus_the_weighted_one_of_the_others",
    "train on all": "datamodules/test_repeats_and_captions.py::test_all_pictures_can_be_trained_on",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_has_its_test(setting):
    file, _, name = SETTINGS[setting].partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
