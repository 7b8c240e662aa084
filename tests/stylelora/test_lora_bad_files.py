"""Every file that is not one complete adapter for this base is refused, with a sentence that says why."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stylelora.lora.blend import added, check_adapter
from stylelora.lora.inject import adapted_modules, inject_lora
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.lora.write import trained_layers, write_lora
from stylelora.records import InputError
from tests.tiny_sd import TINY_UNET

CONFIG = "lora_adapter_metadata"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A good adapter file, of rank 4, for the query projections."""
    unet = UNet2DConditionModel(**TINY_UNET)
    inject_lora(unet, 4, 8.0, 0.0, ["to_q"], seed=0)
    path = tmp_path_factory.mktemp("adapter") / "good.safetensors"
    write_lora(path, trained_layers(adapted_modules(unet)), {"base": "tiny"}, names="diffusers")
    return path


def edit(source, target, change_state=dict, **config):
    """Copy an adapter file with other weights or another LoraConfig; the config entry None is removed."""
    with safe_open(source, framework="pt") as opened:
        header = opened.metadata()
        state = {key: opened.get_tensor(key) for key in opened.keys()}
    kept = {**json.loads(header[CONFIG]), **{f"unet.{key}": value for key, value in config.items()}}
    header[CONFIG] = json.dumps({key: value for key, value in kept.items() if value is not None})
    save_file(change_state(state), target, metadata=header)


FIRST = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
BAD_WEIGHTS = {
    "no-lora": (lambda s: {"conv.weight": torch.ones(2)}, "has no LoRA weights .* it has conv.weight"),
    "empty": (lambda s: {}, "has no LoRA weights .* it has nothing"),
    "stranger": (
        lambda s: s | {"unet.conv.bias": torch.ones(2)},
        "not LoRA weights of a UNet or text encoder: unet.conv.bias",
    ),
    "many": (lambda s: s | {f"x{i}": torch.ones(1) for i in range(5)}, "x0, x1, x2 and 2 more"),
    "half": (
        lambda s: {k: v for k, v in s.items() if k != f"{FIRST}B.weight"},
        "lacks one of the two factors .* of unet.down_blocks",
    ),
    "ranks": (
        lambda s: s | {f"{FIRST}A.weight": torch.ones(3, 16)},
        "lora_down of rank 3 and lora_up of rank 4 in unet.down_b",
    ),
    "mixed": (
        lambda s: s | {f"{FIRST}A.weight": torch.ones(3, 16), f"{FIRST}B.weight": torch.ones(16, 3)},
        r"\(unet.down_b.* says rank 4, but its weights have rank 3",
    ),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights_are_refused(file, tmp_path, name):
    change, sentence = BAD_WEIGHTS[name]
    edit(file, tmp_path / "bad.safetensors", change)
    with pytest.raises(InputError, match=sentence):
        read_adapter(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"lora_alpha": 0}, "has alpha 0, which is not a number above 0"),
        ({"lora_alpha": "4"}, "has alpha '4', which is not a number above 0"),
        ({"r": 8}, "says rank 8, but its weights have rank 4"),
        ({"use_dora": True, "use_rslora": True}, "uses use_dora, which cannot be blended"),
    ],
)
def test_bad_header_is_refused(file, tmp_path, config, sentence):
    edit(file, tmp_path / "bad.safetensors", **config)
    with pytest.raises(InputError, match=sentence):
        read_adapter(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [("{", "header entry lora_adapter_metadata is not JSON")],
)
def test_damaged_header_is_refused(file, tmp_path, entry, sentence):
    save_file(load_file(file), tmp_path / "bad.safetensors", metadata={CONFIG: entry})
    with pytest.raises(InputError, match=sentence):
        read_adapter(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("entry", ["null", "{}", None])
def test_without_alpha_it_is_the_rank_and_this_is_said(file, tmp_path, entry, caplog):
    path = tmp_path / "silent.safetensors"
    save_file(load_file(file), path, metadata={CONFIG: entry} if entry else {"format": "pt"})
    layers = read_lora(path).layers
    assert {layer.alpha for layer in layers.values()} == {4.0}
    assert caplog.text.count("does not say the alpha; it is read as the rank") == 1
    assert {layer.alpha for layer in read_lora(path, alpha=2.0).layers.values()} == {2.0}
    with pytest.raises(InputError, match="says its alpha itself"):
        read_lora(file, alpha=2.0)


def test_missing_and_damaged_files_are_refused(file, tmp_path):
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match="there is no adapter file"):
            read_adapter(missing)
    damaged = tmp_path / "damaged.safetensors"
    for content in (b"", b"not a tensor in sight", file.read_bytes()[:-100]):
        damaged.write_bytes(content)
        with pytest.raises(InputError, match="is not a safetensors file, or is damaged"):
            read_adapter(damaged)


def test_file_for_another_base_is_refused_and_leaves_the_unet_alone(file):
    wider = UNet2DConditionModel(**(TINY_UNET | {"block_out_channels": (16, 32, 32, 64)}))
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(InputError, match=r"does not fit the base wide, but was trained on .* differs; give the base"):
        check_adapter(read_adapter(file), wider, None, "wide")
    with pytest.raises(InputError, match=r"do not fit this base: .* differs"), added(wider, read_adapter(file).layers):
        pass
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())
    assert all(parameter.requires_grad for parameter in wider.parameters())


def test_numbers_whose_product_is_none_are_refused(tmp_path):
    name, large = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 1e20
    shapes = {"hada_w1_a": (320, 2), "hada_w1_b": (2, 320), "hada_w2_a": (320, 2), "hada_w2_b": (2, 320)}
    save_file({f"{name}.{key}": torch.full(shape, large) for key, shape in shapes.items()}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=f"has weights in {name} whose product is too large for any number"):
        read_lora(tmp_path / "a.safetensors")
