"""LoRA files as PEFT, diffusers and kohya's trainer write them are read as these apply them, or refused."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from stylelora.lora.blend import as_state, blend
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.read import read_adapter
from stylelora.lora.write import save_kohya
from stylelora.pretraining.networks import mini_unet
from stylelora.records import InputError
from tests.adapters import EVERYTHING, base_unet, in_diffusers, in_process
from tests.tiny_sd import disturb, predict

CONFIG = "lora_adapter_metadata"
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA_Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def kohya(layers, dtype=torch.float32, attention=None):
    """The tensors of kohya's trainer; rank and alpha differ between layers, unless all of attention have one alpha."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for index, (layer, module) in enumerate(layers.items()):
        name, rank, ones = f"lora_unet_{layer.replace('.', '_')}", 2 + index % 3, [1] * (module.weight.ndim - 2)
        down = torch.randn(rank, *module.weight.shape[1:], generator=generator)
        up = torch.randn(len(module.weight), rank, *ones, generator=generator)
        # so that no layer's part of the output drowns the others'
        state[f"{name}.lora_down.weight"] = (down / down[0].numel() ** 0.5).to(dtype)
        state[f"{name}.lora_up.weight"] = (0.03 * up).to(dtype)
        alpha = attention if attention and "_to_" in name else 1.0 + index % 4
        state[f"{name}.alpha"] = torch.tensor(alpha).to(dtype)
    return state


def one_layer(**changes):
    """Kohya's tensors of one layer of rank 2; a change to None removes."""
    tensors = {"lora_down.weight": torch.ones(2, 16), "lora_up.weight": torch.ones(16, 2), "alpha": torch.tensor(1.0)}
    tensors |= {key.replace("__", "."): value for key, value in changes.items()}
    return {f"{KOHYA_Q}.{key}": value for key, value in tensors.items() if value is not None}


def written(path, state, header=None):
    save_file(state, path, metadata=header)
    return path


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("naming", ["peft", "diffusers"])
@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {
            "rank_pattern": {"to_k": 2, r"down_blocks\.0\.resnets\.\d+\.conv1": 3, "attn2.to_q": 5},
            "alpha_pattern": {"attn1.to_q": 1.0, r"^mid_block\..*to_v": 7, f"{Q[:-4]}to_k": 0.5},
        },
    ],
)
def test_updates_are_those_of_peft(tiny_sd, tmp_path, use_rslora, naming, patterns):
    unet = base_unet(tiny_sd)
    config = LoraConfig(r=4, lora_alpha=10, target_modules=EVERYTHING, use_rslora=use_rslora, **patterns)
    unet.add_adapter(config)
    disturb(unet)
    state = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(state) if naming == "diffusers" else state,
        unet_lora_adapter_metadata=config.to_dict(),
    )
    adapter = read_adapter(tmp_path / "pytorch_lora_weights.safetensors")
    deltas = {
        name: module.get_delta_weight("default").flatten(1).detach()
        for name, module in unet.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    assert adapter.layers.keys() == deltas.keys()
    for name, delta in deltas.items():
        assert torch.allclose(adapter.layers[name].dense(), delta, atol=1e-6, rtol=1e-5), name
    assert len({update.up.shape[1] for update in adapter.layers.values()}) == (4 if patterns else 1)


def test_a_blend_in_kohyas_format_is_read_again(adapter_files, tmp_path):
    adapters = [read_adapter(file) for file in adapter_files]
    updates = blend(adapters, [0.6, 0.4])
    inputs = {layer: shape for adapter in adapters for layer, shape in adapter.inputs.items()}
    state, rank = as_state(updates, inputs)
    save_kohya(tmp_path / "adapter.safetensors", state, rank=rank, alpha=float(rank), metadata={"trigger": "x"})
    again = read_adapter(tmp_path / "adapter.safetensors")
    assert (again.name, again.metadata["trigger"], again.inputs) == (tmp_path.name, "x", inputs)
    assert any(layer.endswith("conv1") for layer in inputs)
    for layer, update in updates.items():
        assert torch.allclose(again.layers[layer].dense(), update.dense(), atol=1e-6)


def merged_by_kohya(down, up, alpha):
    """The update that `LoRAModule.merge_to` of kohya's networks/lora.py adds."""
    if down.ndim == 2:
        return up @ down * (alpha / len(down))
    return torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3) * (alpha / len(down))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_kohya_file_is_read_as_kohya_merges_it(tiny_sd, tmp_path, dtype):
    layers = adaptable_modules(base_unet(tiny_sd))
    state = kohya(layers, dtype)
    del state[f"{KOHYA_Q}.alpha"]  # then it is the rank
    adapter = read_adapter(written(tmp_path / "k.safetensors", state, {"ss_network_module": "networks.lora"}))
    assert adapter.metadata == {"ss_network_module": "networks.lora"}
    assert adapter.layers.keys() == layers.keys()
    for layer, update in adapter.layers.items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        down, up = (state[f"{name}.lora_{factor}.weight"].float() for factor in ("down", "up"))
        expected = merged_by_kohya(down, up, float(state.get(f"{name}.alpha", len(down))))
        assert torch.allclose(update.dense(), expected.flatten(1), atol=1e-6), layer
        assert adapter.inputs[layer] == expected.shape[1:]


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.7, 0.4)])
def test_a_kohya_file_is_read_as_diffusers_applies_it(tiny_sd, adapter_files, tmp_path, weights):
    state = kohya(adaptable_modules(base_unet(tiny_sd)), torch.float16, attention=2.0)
    files = [written(tmp_path / "k.safetensors", state), adapter_files[1]]
    ours = in_process(tiny_sd, files, weights)
    assert (ours - predict(base_unet(tiny_sd))).abs().max() > 1e-2
    assert torch.allclose(ours, in_diffusers(tiny_sd, files, weights), atol=1e-4)


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys")
def test_diffusers_loses_alphas_of_attention_layers(tiny_sd, tmp_path):
    """Once this fails, the test above can do without `attention`: diffusers 0.42 misnames them in its LoraConfig."""
    layers = {name: module for name, module in adaptable_modules(base_unet(tiny_sd)).items() if "attn" in name}
    state = kohya(layers, attention=2.0)
    same = written(tmp_path / "same.safetensors", state)
    other = written(tmp_path / "other.safetensors", state | {f"{KOHYA_Q}.alpha": torch.tensor(64.0)})
    assert torch.equal(in_diffusers(tiny_sd, [other], [1.0]), in_diffusers(tiny_sd, [same], [1.0]))
    assert not torch.allclose(in_process(tiny_sd, [other], [1.0]), in_process(tiny_sd, [same], [1.0]), atol=1e-3)


def test_kohya_names_of_the_mini_base_are_found(tmp_path):
    layers = adaptable_modules(mini_unet((32, 64), 32))
    assert read_adapter(written(tmp_path / "k.safetensors", kohya(layers))).layers.keys() == layers.keys()


def also(name, shape=(2, 2)):
    return one_layer() | {name: torch.ones(shape)}


CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
BAD_KOHYA = {
    "text encoder": (also("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"), "has text-encoder layers"),
    "text encoder 1": (also("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"), "train or export these alone"),
    "sdxl's encoder": (also("lora_te2_a.alpha") | also("lora_te1_a.alpha"), "another model, .* second text encoder"),
    "dora": (one_layer(dora_scale=torch.ones(16)), "is a DoRA"),
    "loha": ({f"{KOHYA_Q}.hada_w1_a": torch.ones(2, 2)}, "is a LoHa, LoKr"),
    "lokr": (also(f"{KOHYA_Q}.lokr_w1"), "is a LoHa, LoKr"),
    "full": ({f"{KOHYA_Q}.diff": torch.ones(2, 2)}, "is a LoHa, LoKr or the like"),
    "tucker": (one_layer(lora_mid__weight=torch.ones(2, 2, 3, 3)), "is a LoCon with three factors"),
    "bias": (one_layer(lora_up__bias=torch.ones(16)), "changes biases"),
    "stranger": (also("bundle_emb.x.string_to_param"), "not LoRA weights of a UNet: bundle_emb"),
    "diffusers, too": (also(f"unet.{Q}.lora_A.weight"), "not LoRA weights of a UNet: unet.down"),
    "scalar": (one_layer(scalar=torch.tensor(1.0)), "not LoRA weights of a UNet: .*scalar"),
    "no up": (one_layer(lora_up__weight=None), "lacks lora_down or lora_up of lora_unet_down"),
    "no down": (one_layer(lora_down__weight=None), "lacks lora_down or lora_up of lora_unet_down"),
    "alpha alone": (also(f"{CONV}.alpha", ()), "lacks lora_down or lora_up of lora_unet_down_blocks_0_resnets_0_conv1"),
    "ranks": (one_layer(lora_up__weight=torch.ones(16, 3)), "lora_A of rank 2 and lora_B of rank 3 in down_blocks"),
    "wide up": (one_layer(lora_up__weight=torch.ones(16, 2, 3, 3)), "lora_A of rank 2 and lora_B of rank 18"),
    "empty": (one_layer(lora_down__weight=torch.ones(0, 16), lora_up__weight=torch.ones(16, 0)), "lacks lora_A"),
    "vector": (one_layer(lora_up__weight=torch.ones(16)), "lacks lora_A or lora_B of down_blocks"),
    "nan": (one_layer(lora_up__weight=torch.full((16, 2), torch.nan).half()), "NaN or infinite .*lora_up.weight"),
    "infinite": (one_layer(alpha=torch.tensor(torch.inf)), "NaN or infinite weights in .*alpha"),
    "alpha 0": (one_layer(alpha=torch.tensor(0.0)), "alpha 0.0, which is not a number above 0"),
    "alphas": (one_layer(alpha=torch.ones(2)), "more than one alpha"),
    "sdxl": (
        {
            f"lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_{key}.weight": torch.ones(2, 2)
            for key in ("down", "up")
        },
        "another model, such as SDXL; SD 1.5's UNet has no lora_unet_input_blocks_4_1",
    ),
    "flux": (
        {f"lora_unet_double_blocks_0_img_attn_proj.lora_{key}.weight": torch.ones(2, 2) for key in ("down", "up")},
        "another model, such as SDXL; SD 1.5's UNet has no lora_unet_double_blocks_0_img",
    ),
    # Both become down_blocks.0.attentions...to_q in diffusers, of which one would be lost.
    "twice": (
        one_layer() | {key.replace("down_blocks", "input_blocks"): value for key, value in one_layer().items()},
        "another model, .* no lora_unet_input_blocks_0_attentions",
    ),
}


@pytest.mark.parametrize("case", BAD_KOHYA)
def test_a_kohya_file_that_cannot_be_read_whole_is_refused(tmp_path, case):
    state, sentence = BAD_KOHYA[case]
    file = written(tmp_path / "bad.safetensors", state)
    with pytest.raises(InputError, match=f"bad.safetensors .*{sentence}"):
        read_adapter(file)


def peft(layer=Q):
    """PEFT's tensors of one layer of rank 2."""
    return {f"unet.{layer}.lora_A.weight": torch.ones(2, 16), f"unet.{layer}.lora_B.weight": torch.ones(16, 2)}


BAD_DIFFUSERS = {
    "text encoder": (peft() | {"text_encoder.encoder.lora_A.weight": torch.ones(2, 2)}, {}, "has text-encoder layers"),
    "sdxl": (peft(Q.replace("blocks.0.attn", "blocks.3.attn")), {}, "such as SDXL; SD 1.5's UNet has no .*blocks.3"),
    "dora": (peft() | {f"unet.{Q}.lora_magnitude_vector": torch.ones(16)}, {}, "is a DoRA"),
    "bias": (peft() | {f"unet.{Q}.lora_B.bias": torch.ones(16)}, {}, "changes biases"),
    "twice": (
        peft() | {f"unet.{Q.replace('to_q', 'processor.to_q_lora')}.up.weight": torch.ones(16, 2)},
        {},
        "holds a layer under two names",
    ),
    "stranger": (peft() | {f"unet.{Q}.alpha": torch.ones(())}, {}, "not LoRA weights of a UNet: unet.down"),
    "no prefix": ({key.removeprefix("unet."): value for key, value in peft().items()}, {}, "no LoRA weights of a UNet"),
    "nothing": ({}, {}, "no LoRA weights of a UNet"),
    "no alpha": (peft(), {"lora_alpha": None}, "does not record its alpha"),
    "bad alpha": (peft(), {"lora_alpha": "2"}, "alpha '2', which is not a number above 0"),
    "bad alphas": (peft(), {"alpha_pattern": {"to_q": 0}}, "alpha 0, which is not a number above 0"),
    "rank": (peft(), {"r": 4}, "says rank 4, but its weights have rank 2"),
    "ranks": (peft(), {"rank_pattern": {"to_q": 3}}, "says rank 3, but its weights have rank 2"),
    "list": (peft(), {"rank_pattern": ["to_q"]}, "unreadable rank_pattern"),
    "number": (peft(), {"alpha_pattern": 3}, "unreadable alpha_pattern"),
    "regex": (peft(), {"alpha_pattern": {"(": 3}}, "unreadable alpha_pattern"),
    "dora's header": (peft(), {"use_dora": True, "use_rslora": True}, "uses use_dora, which is not supported"),
    "bias's header": (peft(), {"lora_bias": True}, "uses lora_bias"),
    "pissa": (peft(), {"init_lora_weights": "pissa_niter_4"}, "uses pissa_niter_4"),
}


@pytest.mark.parametrize("case", BAD_DIFFUSERS)
def test_a_diffusers_file_that_cannot_be_read_whole_is_refused(tmp_path, case):
    state, changes, sentence = BAD_DIFFUSERS[case]
    config = {"lora_alpha": 2, "r": 2, "use_dora": False, "init_lora_weights": "gaussian", "rank_pattern": {}}
    config = {f"unet.{key}": value for key, value in (config | changes).items() if value is not None}
    file = written(tmp_path / "bad.safetensors", state, {CONFIG: json.dumps(config)})
    with pytest.raises(InputError, match=f"bad.safetensors .*{sentence}"):
        read_adapter(file)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [("{", "unreadable header entry"), ("null", "does not record its alpha"), ("{}", "its alpha")],
)
def test_damaged_headers_are_refused(tmp_path, entry, sentence):
    with pytest.raises(InputError, match=sentence):
        read_adapter(written(tmp_path / "bad.safetensors", peft(), {CONFIG: entry}))


def test_missing_and_damaged_files_are_refused(adapter_files, tmp_path):
    with pytest.raises(InputError, match="there is no adapter file"):
        read_adapter(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(adapter_files[0].read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a safetensors file, or is damaged"):
        read_adapter(tmp_path / "bad.safetensors")


def test_an_old_diffusers_file_is_refused_for_its_alpha_and_not_its_names(adapter_files, tmp_path):
    state = convert_state_dict_to_diffusers(load_file(adapter_files[0]))
    assert any(".lora.down." in key for key in state)
    with pytest.raises(InputError, match="does not record its alpha"):
        read_adapter(written(tmp_path / "bad.safetensors", state))
