"""Single-file checkpoints: the same bits as the same weights in a folder, and the shapes of the real ones."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from stylelora.base import single_file
from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    native_resolution,
    part_hash,
    resolve_base,
    size_step,
)
from tests.ldm import checkpoint_state, copy_configs, write_checkpoint
from tests.tiny_sd import build_tiny_sd

LOADERS = {"unet": load_unet, "vae": load_vae, "text_encoder": load_text_encoder}
# What is published of the real checkpoints.
PARAMETERS = {"sd-1": (859_520_964, 83_653_863, 123_060_480), "sd-2": (865_910_724, 83_653_863, 340_387_840)}


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        value.dtype == torch.float32 and torch.equal(value, second[name]) for name, value in first.items()
    )


def state_of(folder):
    return checkpoint_state(*(load(resolve_base(str(folder))) for load in LOADERS.values()))


@pytest.fixture(scope="module")
def sd1(tiny_sd):
    return state_of(tiny_sd)


@pytest.fixture
def tiny_configs(tiny_sd, tmp_path, monkeypatch):
    """The tiny layout takes the place of the real ones."""
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    return copy_configs(tiny_sd, tmp_path / "configs" / "tiny")


def test_each_part_equals_the_folder_bit_for_bit(tiny_sd, sd1, tiny_configs, tmp_path):
    file = resolve_base(str(write_checkpoint(tmp_path / "a.safetensors", sd1)))
    before = torch.get_rng_state()
    for load in LOADERS.values():
        assert same_weights(load(file), load(tiny_sd))
        assert not load(file).training and not any(p.requires_grad for p in load(file).parameters())
    assert torch.equal(torch.get_rng_state(), before)
    assert load_scheduler(file).config == load_scheduler(tiny_sd).config
    assert load_tokenizer(file)(["a fox"]).input_ids == load_tokenizer(tiny_sd)(["a fox"]).input_ids
    assert (size_step(file), native_resolution(file)) == (size_step(tiny_sd), native_resolution(tiny_sd))
