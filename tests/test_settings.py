"""The settings of a typical config of kohya's, and the test of each that fails when the option does nothing."""

import ast

import pytest

from tests.runs import ROOT, fit_words
from tests.test_optimisers import Parser

SETTINGS = {
    "SD 1.5, a folder": "lightning_modules/test_each_option_of_training.py::test_base",
    "SD 1.5, a single file": "lightning_modules/test_single_file_base.py::test_a_module_has_the_weights_of_the_file",
    "resolution": "datamodules/test_each_option_of_data.py::test_resolution",
    "batch size": "datamodules/test_each_option_of_data.py::test_batch_size",
    "repeats": "datamodules/test_repeats_and_captions.py::test_the_repeats_of_a_folder_are_those_of_the_option",
    "10_name": "datamodules/test_repeats_and_captions.py::"
    "test_each_picture_is_shown_as_often_as_its_folder_and_its_row_say",
    "dim": "lightning_modules/test_each_option_of_training.py::test_rank",
    "alpha": "lightning_modules/test_each_option_of_training.py::test_alpha",
    "unet lr": "lightning_modules/test_style_lora.py::test_optimiser_gets_the_adapter_alone",
    "text encoder lr": "lightning_modules/test_each_option_of_training.py::test_learning_rate_of_the_text_encoder",
    "cosine with restarts": "lightning_modules/test_each_option_of_training.py::test_cosine_with_restarts",
    "warm-up": "lightning_modules/test_each_option_of_training.py::test_warmup",
    "AdamW8bit": "test_optimisers.py::test_an_optimiser_is_built_as_written_and_lowers_a_loss",
    "Prodigy": "test_optimisers.py::test_an_optimiser_is_built_as_written_and_lowers_a_loss",
    "min_snr_gamma": "lightning_modules/test_each_option_of_training.py::test_min_snr_gamma",
    "noise_offset": "lightning_modules/test_each_option_of_training.py::test_noise_offset",
    "shuffle_caption": "datamodules/test_each_option_of_data.py::test_tags_are_shuffled",
    "keep_tokens": "datamodules/test_each_option_of_data.py::test_leading_tags_are_kept",
    "flip_aug": "datamodules/test_each_option_of_data.py::test_flip",
    "enable_bucket": "datamodules/test_each_option_of_data.py::test_buckets",
    "caption dropout": "lightning_modules/test_each_option_of_training.py::test_caption_dropout",
    "network dropout": "lightning_modules/test_each_option_of_training.py::test_network_dropout",
    "save every n": "lightning_modules/test_style_lora.py::"
    "test_adapters_of_every_nth_step_and_epoch_are_files_with_no_number_of_others",
    "sample prompts file": "lightning_modules/test_sample_prompts.py::test_a_file_of_prompts",
    "negative prompt": "lightning_modules/test_sample_prompts.py::"
    "test_samples_have_each_option_and_others_the_defaults",
    "max_train_steps": "test_settings.py::test_the_trainer_gets_what_the_command_line_says",
    "gradient_accumulation_steps": "lightning_modules/test_each_option_of_training.py::test_accumulation",
    "max_grad_norm": "lightning_modules/test_each_option_of_training.py::test_clipping",
    "gradient checkpointing": "lightning_modules/test_memory.py::"
    "test_checkpointing_keeps_less_and_gives_the_same_gradients",
    "bf16, fp16": "lightning_modules/test_each_option_of_training.py::test_mixed_precision",
    "sdpa": "lightning_modules/test_each_option_of_training.py::test_attention_is_scaled_dot_product_attention",
    "clip_skip": "lightning_modules/test_clip_skip.py::test_the_captions_of_training_have_it",
    "v_parameterization": "lightning_modules/test_each_option_of_training.py::test_v_prediction",
    "conv_dim, conv_alpha": "lightning_modules/test_each_option_of_training.py::test_ranks_and_alphas_of_convolutions",
    "network_weights": "stylelora/test_lora_continued.py::test_the_module_continues_it",
    "resume": "lightning_modules/test_style_lora.py::test_a_resumed_run_equals_a_straight_one",
    "save fp16": "lightning_modules/test_style_lora.py::"
    "test_adapters_of_every_nth_step_and_epoch_are_files_with_no_number_of_others",
    "reg_data_dir": "datamodules/test_each_option_of_data.py::test_pictures_without_the_style",
    "train on all": "datamodules/test_repeats_and_captions.py::test_all_pictures_can_be_trained_on",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_has_its_test(setting):
    file, _, name = SETTINGS[setting].partition("::")
    assert file.rpartition("/")[2].startswith("test_"), "else pytest does not run it"
    tree = ast.parse((ROOT / "tests" / file).read_text())
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert "slow" not in " ".join(map(ast.unparse, found.decorator_list)), "else most runs leave it out"


def test_the_trainer_gets_what_the_command_line_says(tiny_sd, pictures, tmp_path):
    words = ["--trainer.max_steps=7", "--trainer.accumulate_grad_batches=4", "--trainer.gradient_clip_val=0.5"]
    words = [word for word in fit_words(tiny_sd, "null", pictures, tmp_path, *words) if "max_epochs" not in word]
    trainer = Parser(words, args=[*words, "--trainer.precision=bf16-mixed"]).built.fit.trainer
    assert (trainer.max_steps, trainer.max_epochs) == (7, -1)  # not the config's epochs
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val) == (4, 0.5)
    assert trainer.precision == "bf16-mixed"
