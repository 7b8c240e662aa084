"""Training goes on from a LoRA file of any program, at the strength that it has there."""

import pytest
import torch

from lightning_modules import StyleLoRA
from stylelora.lora.continued import Continued, continue_from
from stylelora.lora.factors import Layer
from stylelora.lora.inject import adapted_modules, inject_lora
from stylelora.lora.options import LoraOptions
from stylelora.lora.write import trained_layers, write_lora
from stylelora.records import InputError
from tests.adapters import ATTENTION, EVERYTHING, base_unet, in_diffusers, write_adapter
from tests.tiny_sd import predict


def continued(tiny_sd, file, rank=4, targets=EVERYTHING, alpha=None, **options):
    unet = base_unet(tiny_sd)
    inject_lora(unet, rank, alpha, 0.0, targets, seed=9, options=LoraOptions(**options))
    return unet, continue_from(str(file), adapted_modules(unet))


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4},  # the files' ranks are 4 and 2, their alphas 10 and 1
        pytest.param({"rank": 6, "alpha": 3.0}, marks=pytest.mark.slow),
        pytest.param({"rank": 4, "alpha": 5.0, "use_rslora": True}, marks=pytest.mark.slow),
        {"rank": 4, "rank_pattern": {"to_q": 5}},
    ],
)
def test_the_first_step_predicts_what_the_file_does(tiny_sd, adapter_files, options):
    for file in adapter_files:
        unet, _ = continued(tiny_sd, file, **options)
        expected = in_diffusers(tiny_sd, [file], [1.0])
        assert torch.allclose(predict(unet), expected, atol=1e-5)
        assert not torch.allclose(expected, predict(base_unet(tiny_sd)), atol=1e-2)


def test_the_same_rank_and_alpha_give_the_same_numbers(tiny_sd, adapter_files):
    unet, found = continued(tiny_sd, adapter_files[0], targets=ATTENTION, alpha=10.0)
    again = trained_layers(adapted_modules(unet))
    file = adapter_files[0].with_name("again.safetensors")
    write_lora(file, again, {})
    other, _ = continued(tiny_sd, file, targets=ATTENTION, alpha=10.0)
    for name, layer in trained_layers(adapted_modules(other)).items():
        assert torch.equal(layer.down, again[name].down) and torch.equal(layer.up, again[name].up)
    assert found.trigger == "inkstyle"


def test_further_ranks_can_be_trained(tiny_sd, adapter_files):
    unet, _ = continued(tiny_sd, adapter_files[1], rank=3)
    unet(torch.ones(1, 4, 8, 8), 3, torch.ones(1, 77, 32)).sample.square().sum().backward()
    layer = unet.get_submodule("down_blocks.0.resnets.0.conv1")
    assert layer.lora_B["style"].weight[:, 2].abs().max() == 0  # adds nothing yet
    assert layer.lora_B["style"].weight.grad[:, 2].abs().max() > 0


def test_other_programs_spellings_are_read(tiny_sd, tmp_path):
    file = write_adapter(tiny_sd, tmp_path / "a.safetensors", 3, 6.0, ATTENTION, 3)
    unet, _ = continued(tiny_sd, file, rank=3, targets=ATTENTION)
    for names in ("diffusers", "peft"):
        path = tmp_path / ("folder" if names == "peft" else f"{names}.safetensors")
        write_lora(path, trained_layers(adapted_modules(unet)), {}, names)
        assert torch.allclose(predict(continued(tiny_sd, path, rank=3, targets=ATTENTION)[0]), predict(unet), atol=1e-5)


def test_a_higher_rank_and_another_base_are_refused(tiny_sd, adapter_files, tmp_path):
    with pytest.raises(InputError, match=r"ink\.safetensors has rank 4 in .*, but rank 3 is trained here; give 4"):
        continued(tiny_sd, adapter_files[0], rank=3)
    with pytest.raises(InputError, match="has none of the layers that are trained here; it has down_blocks"):
        continued(tiny_sd, adapter_files[0], targets=["conv2"])
    layer = Layer(torch.ones(2, 320), torch.ones(320, 2), 2.0)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    write_lora(tmp_path / "other.safetensors", {name: layer}, {})
    with pytest.raises(InputError, match=r"other\.safetensors was made for another base: .*to_q has other shapes"):
        continued(tiny_sd, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"there is no adapter file nothing\.safetensors"):
        StyleLoRA(base=str(tiny_sd), init_from="nothing.safetensors")


def test_what_only_one_has_is_said(tiny_sd, adapter_files, caplog):
    continued(tiny_sd, adapter_files[1], targets=["to_q", "conv2"])
    assert "which are not trained here and so are left out" in caplog.text
    assert "does not have down_blocks.0.resnets.0.conv2" in caplog.text and "start with an update of 0" in caplog.text


def test_another_trigger_is_said(caplog):
    Continued("ink.safetensors", "inkstyle").compare_trigger("inkstyle")
    Continued("", "").compare_trigger("inkstyle")
    assert not caplog.text
    Continued("ink.safetensors", "inkstyle").compare_trigger("zqx")
    assert (
        "has the trigger word 'inkstyle', but 'zqx' is trained; to keep it, give --data.trigger 'inkstyle'"
        in caplog.text
    )


def test_the_module_continues_it(tiny_sd, adapter_files):
    module = StyleLoRA(base=str(tiny_sd), rank=4, target_modules=ATTENTION, init_from=str(adapter_files[0]))
    assert torch.allclose(predict(module.unet), in_diffusers(tiny_sd, [adapter_files[0]], [1.0]), atol=1e-5)


def test_a_start_at_the_bases_own_weights_contradicts_it(tiny_sd, adapter_files):
    with pytest.raises(InputError, match="pissa"):
        continued(tiny_sd, adapter_files[0], targets=ATTENTION, init_lora_weights="pissa")
