"""A single-file checkpoint trains, samples and blends as the same weights in a folder do, bit for bit."""

import lightning.pytorch as L
import pytest
import torch
from diffusers import UNet2DConditionModel

from datamodules import Prompts, StyleDataModule
from lightning_modules import ComposedStyles, StyleLoRA
from stylelora.base import single_file
from stylelora.base.load import load_text_encoder, load_unet, load_vae
from tests.adapters import write_two
from tests.ldm import checkpoint_state, copy_configs, write_checkpoint
from tests.runs import CONTENTS, Keep, adamw, same
from tests.tiny_sd import build_tiny_sd, predict


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    """With every layer of SD 1.5, whose names a single file has otherwise."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="module")
def adapter_files(tiny_sd, tmp_path_factory):
    return write_two(tiny_sd, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def bases(tiny_sd, tmp_path_factory):
    """The same weights twice: a folder and a file."""
    folder = tmp_path_factory.mktemp("single_file")
    copy_configs(tiny_sd, folder / "configs" / "tiny")
    state = checkpoint_state(*(load(tiny_sd) for load in (load_unet, load_vae, load_text_encoder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_file, "CONFIGS", folder / "configs")
        yield str(tiny_sd), str(write_checkpoint(folder / "model.safetensors", state))


def trainer(folder, *callbacks):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = {"accelerator": "cpu", "max_epochs": 2, "num_sanity_val_steps": 0}
    return L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **settings, **quiet)


def test_a_module_has_the_weights_of_the_file(bases):
    folder, file = bases
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    module = StyleLoRA(base=file, rank=1)
    assert torch.allclose(predict(module.unet.eval()), predict(unet), atol=1e-6)
    assert module.hparams.base == file


@pytest.mark.slow
def test_a_fit_is_the_same_bit_for_bit(bases, pictures, tmp_path):
    found = []
    for i, base in enumerate(bases):
        L.seed_everything(0, verbose=False)
        keep, module = Keep(), StyleLoRA(base=base, rank=4, num_inference_steps=2, optimizer=adamw(1.0e-3))
        data = StyleDataModule(
            root=str(pictures), resolution=64, batch_size=2, held_out=0.4, trigger="zqx", prompts=CONTENTS,
            cache=str(tmp_path / f"cache{i}"),
        )  # fmt: skip
        trainer(tmp_path, keep).fit(module, data)
        assert module.hparams.base == base
        found.append(keep)
    folder, file = found
    assert folder.logged == file.logged
    assert folder.logged[0]["train/loss"] != folder.logged[1]["train/loss"]
    assert all(same(first, second) for first, second in zip(folder.adapters, file.adapters, strict=True))
    for first, second in zip(folder.samples, file.samples, strict=True):
        assert torch.equal(first.images, second.images)


def test_predictions_are_the_same_bit_for_bit(bases, adapter_files, tmp_path):
    found = []
    for base in bases:
        module = ComposedStyles(
            [str(file) for file in adapter_files], [0.6, 0.4], base, ["sum", "composite"], num_inference_steps=2
        )
        rows = trainer(tmp_path).predict(module, Prompts(["a cat"]))
        found.append([row["image"] for batch in rows for row in batch])
    assert len(found[0]) == 3
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
