"""Every file in another program's naming is read as that program applies it, or refused with what it holds."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.records import InputError
from tests.programs import huggingface, kohya, lycoris, onetrainer
from tests.programs.files import FILES, without_text
from tests.programs.layers import differences, every_kind, folded, is_text, random_lora, shapes


@pytest.fixture(scope="module")
def of():
    return shapes()


@pytest.fixture(scope="module")
def lora(of):
    """Of every layer, with ranks and alphas that differ, and weights that float16 holds."""
    return random_lora(of, torch.float16)


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_read_as_its_program_means_it(tmp_path, lora, case):
    (tensors, header), meant = FILES[case](lora)
    file = read_lora(huggingface.save(tmp_path / "x.safetensors", tensors, header))
    updates = {layer: one.update.dense() for layer, one in file.layers.items()}
    assert updates.keys() == meant.keys()
    assert max(differences(updates, meant).values()) < 1e-6
    assert file.metadata == {key: value for key, value in (header or {}).items() if key != "format"}


def test_embeddings_beside_a_lora_are_said_to_be_left_out(tmp_path, lora, caplog):
    tensors, header = onetrainer.write(lora, "KOHYA_LORA", embedding=True)
    read_lora(huggingface.save(tmp_path / "x.safetensors", tensors, header))
    assert "bundle_emb.<ink>.clip_l" in caplog.text and "left out" in caplog.text


def test_the_trigger_of_a_kohya_file_is_its_most_frequent_tag(tmp_path, lora, caplog):
    file = huggingface.save(tmp_path / "x.safetensors", *kohya.write(lora))
    assert read_adapter(file).metadata["trigger"] == "inkstyle"
    assert "inkstyle" in caplog.text


@pytest.mark.parametrize("text_prefix", ["text_encoder.", huggingface.TEXT])
@pytest.mark.parametrize("header", [True, False])
def test_a_script_of_diffusers(tmp_path, lora, header, text_prefix):
    """With transformers 4 and 5, with and without the alphas in the header."""
    some = every_kind(lora)
    huggingface.write_pipeline(some, tmp_path, header, text_prefix)
    file = read_lora(tmp_path / "pytorch_lora_weights.safetensors")
    updates = {layer: one.update.dense() for layer, one in file.layers.items()}
    assert updates.keys() == some.keys()
    assert max(differences(updates, some if header else folded(some)).values()) < 1e-6
    assert file.states_alpha is header


def test_folders_of_peft_and_an_adapter_of_a_unet(tiny_sd, tmp_path, of):
    some = every_kind(random_lora(of))
    unet, text = without_text(some), {layer: parts for layer, parts in some.items() if is_text(layer)}
    load = UNet2DConditionModel.from_pretrained
    own = {layer.removeprefix(huggingface.TEXT): parts for layer, parts in text.items()}
    huggingface.write_peft(unet, tmp_path / "lora" / "unet", load(tiny_sd, subfolder="unet"))
    encoder = CLIPTextModel.from_pretrained(tiny_sd, subfolder="text_encoder")
    huggingface.write_peft(own, tmp_path / "lora" / "text_encoder", encoder)
    huggingface.write_adapter(unet, tmp_path / "adapter", load(tiny_sd, subfolder="unet"))
    for path, meant in {
        "lora": some,
        "lora/unet": unet,
        "lora/unet/adapter_model.safetensors": unet,
        "lora/text_encoder": text,
        "adapter/pytorch_lora_weights.safetensors": unet,
    }.items():
        updates = {layer: one.update.dense() for layer, one in read_lora(tmp_path / path).layers.items()}
        assert updates.keys() == meant.keys()
        assert max(differences(updates, meant).values()) < 1e-6, path


@pytest.mark.parametrize("algorithm", ["loha", "lokr"])
def test_products_of_lycoris(tmp_path, lora, algorithm):
    layers = {layer: parts for layer, parts in every_kind(lora).items() if layer not in kohya.NOT_WRAPPED}
    tensors, meant = lycoris.write_products(layers)[algorithm]
    read = read_lora(huggingface.save(tmp_path / "x.safetensors", tensors, None)).layers
    assert read.keys() == meant.keys()
    for layer, change in meant.items():
        assert torch.allclose(read[layer].update.dense(), change, rtol=1e-5, atol=1e-5), layer


def test_a_tucker_decomposition_of_lycoris_is_three_convolutions(tmp_path, of):
    layer = "mid_block.resnets.0.conv1"
    tensors, forward = lycoris.write_tucker(layer, of[layer])
    one = read_lora(huggingface.save(tmp_path / "x.safetensors", tensors, None)).layers[layer]
    pictures = torch.randn(1, of[layer][1], 8, 8, generator=torch.Generator().manual_seed(0))
    kernel = one.update.dense().reshape(of[layer])
    assert torch.allclose(torch.nn.functional.conv2d(pictures, kernel, padding=1), forward(pictures), atol=1e-4)


@pytest.mark.parametrize("algorithm", ["dora_wd", "full", "train_norm", "ia3", "glora", "diag-oft", "boft"])
def test_what_is_no_lora_is_refused_with_its_keys(tmp_path, of, algorithm):
    layer = "mid_block.resnets.0.conv1"
    tensors = lycoris.write_others(layer, of[layer])[algorithm]
    with pytest.raises(InputError, match=r"x\.safetensors .*lora_unet_mid_block_resnets_0_conv1\."):
        read_lora(huggingface.save(tmp_path / "x.safetensors", tensors, None))
