"""The file of a training, in each other program, makes the UNet of the training."""

from pathlib import Path

import pytest
import torch

from callbacks import SaveAdapter
from stylelora.runs.folder import adapter_file
from tests.adapters import EVERYTHING, base_unet
from tests.programs import a1111, ai_toolkit, comfyui, forge, huggingface, kohya, lycoris, onetrainer
from tests.programs.layers import shapes
from tests.runs import adamw
from tests.tiny_sd import TINY_UNET, build_tiny_sd, predict

PROGRAMS = {
    "kohya": kohya.apply,
    "LyCORIS": lycoris.apply,
    "ai-toolkit": ai_toolkit.apply,
    "OneTrainer": onetrainer.apply,
    "ComfyUI": comfyui.apply,
    "Forge": forge.apply,
    "A1111": a1111.apply,
    "diffusers": None,
}


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    """With every layer of SD 1.5, whose names other programs translate."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="module")
def trained(train):
    """The file that a training leaves, and what its UNet makes of one input."""
    more = [
        "conv2",
        "conv_shortcut",
        "time_emb_proj",
        "downsamplers.0.conv",
        "upsamplers.0.conv",
        "proj_out",
        "ff.net.2",
    ]
    trainer, module = train(SaveAdapter(), alpha=10.0, target_modules=EVERYTHING + more, optimizer=adamw(1.0e-2))
    return adapter_file(Path(trainer.default_root_dir), "-last"), predict(module.unet.eval())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_draws_with_the_unet_that_was_trained(trained, tiny_sd, name):
    file, expected = trained
    if name == "diffusers":
        updates, left_out = huggingface.in_diffusers(file, tiny_sd), []
    else:
        updates, left_out = PROGRAMS[name](*huggingface.load(file), shapes(unet=TINY_UNET))
    assert not left_out
    unet = base_unet(tiny_sd)
    assert (predict(unet) - expected).abs().max() > 1e-3
    with torch.no_grad():
        for layer, change in updates.items():
            weight = unet.get_submodule(layer).weight
            weight += change.reshape(weight.shape)
    assert torch.allclose(predict(unet), expected, atol=1e-5)
