"""LoRA files as PEFT, diffusers and kohya's trainer write them are read as these apply them, or refused."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from stylelora.lora.blend import as_layers, blend
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter, read_adapters
from stylelora.lora.write import write_lora
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
    write_lora(tmp_path / "adapter.safetensors", as_layers(updates, adapters), {"trigger": "x"})
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
    "text encoder": (
        also("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"),
        "lacks one of the two factors .* of lora_te_text_model_encoder_layers_0_mlp_fc1",
    ),
    "no such layer": (
        also("lora_te1_text_model_encoder_layers_99_mlp_fc1.alpha"),
        "has no lora_te1_text_model_encoder",
    ),
    "sdxl's encoder": (
        also("lora_te2_a.alpha") | also("lora_te1_a.alpha"),
        "is a LoRA for SDXL",
    ),
    "dora": (one_layer(dora_scale=torch.ones(16)), "is a DoRA"),
    "loha": ({f"{KOHYA_Q}.hada_w1_a": torch.ones(2, 2)}, f"lacks a factor of {KOHYA_Q}"),
    "lokr": ({f"{KOHYA_Q}.lokr_w1": torch.ones(2, 2)}, f"lacks a factor of {KOHYA_Q}"),
    "loha's tucker": ({f"{CONV}.hada_t1": torch.ones(2, 2)}, f"a Tucker decomposition of a LoHa or LoKr in {CONV}"),
    "full": ({f"{KOHYA_Q}.diff": torch.ones(2, 2)}, "changes weights as no LoRA can"),
    "oft": ({f"{KOHYA_Q}.oft_blocks": torch.ones(2, 2)}, "changes weights as no LoRA can"),
    "tucker": (one_layer(lora_mid__weight=torch.ones(3, 3, 3, 3)), r"a lora_mid of shape \(3, 3, 3, 3\)"),
    "integers": (one_layer(lora_up__weight=torch.ones(16, 2).int()), "no floating-point numbers in .*lora_up"),
    "bias": (one_layer(lora_up__bias=torch.ones(16)), "changes biases"),
    "stranger": (also("vae.weight"), "not LoRA weights of a UNet or text encoder: vae.weight"),
    "diffusers, too": (
        also(f"unet.{Q}.lora_A.weight"),
        f"a layer under two names: {KOHYA_Q} and unet.{Q}.lora_A.weight",
    ),
    "scalar": (one_layer(scalar=torch.tensor(1.0)), "not LoRA weights of a UNet .*scalar"),
    "no up": (one_layer(lora_up__weight=None), "lacks one of the two factors .* of lora_unet_down"),
    "no down": (one_layer(lora_down__weight=None), "lacks one of the two factors .* of lora_unet_down"),
    "alpha alone": (also(f"{CONV}.alpha", ()), f"lacks one of the two factors .* of {CONV}"),
    "ranks": (one_layer(lora_up__weight=torch.ones(16, 3)), "lora_down of rank 2 and lora_up of rank 3 in lora_unet"),
    "wide up": (one_layer(lora_up__weight=torch.ones(16, 2, 3, 3)), "lora_down of rank 2 and lora_up of rank 18"),
    "empty": (one_layer(lora_down__weight=torch.ones(0, 16), lora_up__weight=torch.ones(16, 0)), "or it is empty"),
    "vector": (one_layer(lora_up__weight=torch.ones(16)), "factors of 1 dimensions in lora_unet_down_blocks"),
    "loha and lora": (
        also(f"{KOHYA_Q}.hada_w1_a"),
        f"holds down, up of {KOHYA_Q} beside a LoHa",
    ),
    "loha's alphas": (
        {f"{KOHYA_Q}.hada_w1_a": torch.ones(2, 2), f"{KOHYA_Q}.alpha": torch.ones(2)},
        "more than one alpha",
    ),
    "loha of vectors": ({f"{KOHYA_Q}.hada_w1_a": torch.ones(2)}, r"hada_w1_a of shape \(2,\)"),
    "embeddings": ({"bundle_emb.a.b": torch.ones(2)}, "holds embeddings only"),
    "nan": (one_layer(lora_up__weight=torch.full((16, 2), torch.nan).half()), "NaN or infinite .*lora_up.weight"),
    "infinite": (one_layer(alpha=torch.tensor(torch.inf)), "NaN or infinite weights in .*alpha"),
    "alpha 0": (one_layer(alpha=torch.tensor(0.0)), "alpha 0.0, which is not a number above 0"),
    "alphas": (one_layer(alpha=torch.ones(2)), "more than one alpha"),
    "sdxl": (
        {
            f"lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_{key}.weight": torch.ones(2, 2)
            for key in ("down", "up")
        },
        "another model, such as SDXL; SD 1.5 has no lora_unet_input_blocks_4_1",
    ),
    "flux": (
        {f"lora_unet_double_blocks_0_img_attn_proj.lora_{key}.weight": torch.ones(2, 2) for key in ("down", "up")},
        "another model, such as SDXL; SD 1.5 has no lora_unet_double_blocks_0_img",
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
    "text encoder": (peft() | {"text_encoder.encoder.lora_A.weight": torch.ones(2, 2)}, {}, "has no text_encoder.enc"),
    "sdxl": (peft(Q.replace("blocks.0.attn", "blocks.3.attn")), {}, "such as SDXL; SD 1.5 has no .*blocks.3"),
    "dora": (peft() | {f"unet.{Q}.lora_magnitude_vector": torch.ones(16)}, {}, "is a DoRA"),
    "bias": (peft() | {f"unet.{Q}.lora_B.bias": torch.ones(16)}, {}, "changes biases"),
    "twice": (
        peft() | {f"unet.{Q.replace('to_q', 'processor.to_q_lora')}.up.weight": torch.ones(16, 2)},
        {},
        "holds a layer under two names: unet.*processor.to_q and unet",
    ),
    "stranger": (peft() | {f"unet.{Q}.beta": torch.ones(())}, {}, "not LoRA weights of a UNet .*: unet.down"),
    "nothing": ({}, {}, "no LoRA weights of a UNet"),
    "bad alpha": (peft(), {"lora_alpha": "2"}, "alpha '2', which is not a number above 0"),
    "bad alphas": (peft(), {"alpha_pattern": {"to_q": 0}}, "alpha 0, which is not a number above 0"),
    "rank": (peft(), {"r": 4}, "says rank 4, but its weights have rank 2"),
    "ranks": (peft(), {"rank_pattern": {"to_q": 3}}, "says rank 3, but its weights have rank 2"),
    "list": (peft(), {"rank_pattern": ["to_q"]}, "unreadable rank_pattern"),
    "number": (peft(), {"alpha_pattern": 3}, "unreadable alpha_pattern"),
    "regex": (peft(), {"alpha_pattern": {"(": 3}}, "unreadable alpha_pattern"),
    "dora's header": (peft(), {"use_dora": True, "use_rslora": True}, "uses use_dora, which cannot be blended"),
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


def test_missing_and_damaged_files_are_refused(adapter_files, tmp_path):
    with pytest.raises(InputError, match="there is no adapter file"):
        read_adapter(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(adapter_files[0].read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a safetensors file, or is damaged"):
        read_adapter(tmp_path / "bad.safetensors")


def test_an_old_diffusers_file_is_read_with_its_rank_as_alpha(adapter_files, tmp_path):
    write_lora(tmp_path / "new.safetensors", read_lora(adapter_files[0]).layers, {}, names="diffusers")
    new = load_file(tmp_path / "new.safetensors")
    old = convert_state_dict_to_diffusers(new)
    assert any(".lora.down." in key for key in old)
    to_old = {".to_q.lora.": ".processor.to_q_lora.", ".to_out.0.lora.": ".processor.to_out_lora."}
    oldest = old
    for new_name, old_name in to_old.items():
        oldest = {key.replace(new_name, old_name): value for key, value in oldest.items()}
    assert any(".processor.to_out_lora.up" in key for key in oldest)
    want = read_adapter(tmp_path / "new.safetensors").layers
    bare = {key.removeprefix("unet."): value for key, value in new.items()}
    for name, state in {"old": old, "oldest": oldest, "bare": bare}.items():
        found = read_adapter(written(tmp_path / f"{name}.safetensors", state)).layers
        assert found.keys() == want.keys()
        assert all(torch.equal(found[layer].dense(), update.dense()) for layer, update in want.items())


def test_a_tucker_decomposition_is_the_lora_that_its_three_convolutions_make(tmp_path):
    """As sd-scripts' and LyCORIS' modules compute it: down 1 x 1, mid 3 x 3, up 1 x 1."""
    normal = torch.Generator().manual_seed(0)
    down, mid, up = (torch.randn(*shape, generator=normal) for shape in ((4, 16, 1, 1), (4, 4, 3, 3), (16, 4, 1, 1)))
    names = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    file = written(tmp_path / "t.safetensors", {f"{CONV}.{name}": value for name, value in names.items()})
    update = read_adapter(file).layers["down_blocks.0.resnets.0.conv1"].dense().view(16, 16, 3, 3)
    x = torch.randn(1, 16, 8, 8, generator=normal)
    conv = torch.nn.functional.conv2d
    want = conv(conv(conv(x, down), mid, padding=1), up) * (2.0 / 4)
    assert torch.allclose(conv(x, update, padding=1), want, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 8])
@pytest.mark.parametrize("layer", ["down_blocks.0.attentions.0.proj_in", "down_blocks.1.resnets.0.conv2"])
def test_a_loha_is_the_product_entry_by_entry(tmp_path, rank, layer):
    """LyCORIS: (w1_a w1_b) * (w2_a w2_b) * alpha / rank, in the shape of the layer's weight."""
    normal, inputs = torch.Generator().manual_seed(0), 32 * 9 if "conv" in layer else 32
    shapes = {
        "hada_w1_a": (32, rank),
        "hada_w1_b": (rank, inputs),
        "hada_w2_a": (32, rank),
        "hada_w2_b": (rank, inputs),
    }
    parts = {name: torch.randn(*shape, generator=normal) for name, shape in shapes.items()}
    name = f"lora_unet_{layer.replace('.', '_')}"
    state = {f"{name}.{key}": value for key, value in parts.items()} | {f"{name}.alpha": torch.tensor(3.0)}
    adapter = read_adapter(written(tmp_path / "h.safetensors", state))
    one, two = parts["hada_w1_a"] @ parts["hada_w1_b"], parts["hada_w2_a"] @ parts["hada_w2_b"]
    assert torch.allclose(adapter.layers[layer].dense(), one * two * 3 / rank, atol=1e-4)
    assert adapter.inputs[layer] == ((32, 3, 3) if "conv" in layer else (32, 1, 1))
    assert adapter.layers[layer].up.shape[1] <= min(rank**2, 32)


@pytest.mark.parametrize(
    "kind", [("w1", "w2_a", "w2_b"), ("w1_a", "w1_b", "w2"), ("w1_a", "w1_b", "w2_a", "w2_b"), ("w1", "w2")]
)
def test_a_lokr_is_the_kronecker_product(tmp_path, kind):
    """LyCORIS: kron(w1, w2) * alpha / rank of a factorised side; 1 where there is none. Kernels belong to w2."""
    normal, rank, layer = torch.Generator().manual_seed(0), 2, "down_blocks.1.resnets.0.conv2"
    shapes = {
        "w1": (4, 4),
        "w1_a": (4, rank),
        "w1_b": (rank, 4),
        "w2": (8, 8, 3, 3),
        "w2_a": (8, rank),
        "w2_b": (rank, 72),
    }
    parts = {name: torch.randn(*shapes[name], generator=normal) for name in kind}
    name = f"lora_unet_{layer.replace('.', '_')}"
    state = {f"{name}.lokr_{key}": value for key, value in parts.items()} | {f"{name}.alpha": torch.tensor(3.0)}
    first = parts["w1"] if "w1" in parts else parts["w1_a"] @ parts["w1_b"]
    second = parts["w2"] if "w2" in parts else (parts["w2_a"] @ parts["w2_b"]).view(8, 8, 3, 3)
    want = torch.kron(first[:, :, None, None], second) * (1 if kind == ("w1", "w2") else 3 / rank)
    adapter = read_adapter(written(tmp_path / "k.safetensors", state))
    assert torch.allclose(adapter.layers[layer].dense().view(32, 32, 3, 3), want, atol=1e-4)
    again = write_lora(tmp_path / "plain.safetensors", read_lora(tmp_path / "k.safetensors").layers, {})
    assert again is None
    assert torch.allclose(
        read_adapter(tmp_path / "plain.safetensors").layers[layer].dense().view(32, 32, 3, 3), want, atol=1e-4
    )


def test_embeddings_beside_a_lora_are_left_out_and_said(tmp_path, caplog):
    file = written(tmp_path / "b.safetensors", also("bundle_emb.style.string_to_param.*"))
    assert list(read_adapter(file).layers) == [Q]
    assert "embeddings (textual inversion), which are left out" in caplog.text
    assert "bundle_emb.style" in caplog.text


def test_pickles_are_refused(tmp_path):
    torch.save(one_layer(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a.pt is a pickle, .* save it as .safetensors"):
        read_adapter(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("notes", "trigger", "said"),
    [
        ({"modelspec.trigger_phrase": "zqx style"}, "zqx style", ""),
        (
            {"ss_tag_frequency": '{"10_a": {"1girl": 3, "zqx": 12}, "5_b": {"zqx": 2, "hat": 9}}'},
            "zqx",
            "most frequent",
        ),
        ({"ss_tag_frequency": "{}"}, None, "states no trigger word, so prompts get none"),
        ({"ss_tag_frequency": "[3"}, None, "states no trigger word, so prompts get none"),
        ({}, None, "name one with the option triggers"),
        ({"trigger": "wc", "modelspec.trigger_phrase": "other"}, "wc", ""),
    ],
)
def test_the_trigger_word_of_a_foreign_file_is_found_or_its_absence_said(tmp_path, caplog, notes, trigger, said):
    file = written(tmp_path / "k.safetensors", one_layer(), {"ss_network_dim": "2"} | notes)
    assert read_adapter(file).metadata.get("trigger") == trigger
    assert said in caplog.text
    assert bool(caplog.text) is bool(said)
    assert read_adapters([file], triggers=["mine"])[0].metadata["trigger"] == "mine"
    with pytest.raises(InputError, match="1 adapters and 2 triggers"):
        read_adapters([file], triggers=["a", "b"])


def test_unet_only_leaves_the_text_encoder_out_and_says_so(tmp_path, caplog):
    text = {key.replace(KOHYA_Q, "lora_te_text_model_encoder_layers_0_mlp_fc1"): v for key, v in one_layer().items()}
    both, alone = written(tmp_path / "a.safetensors", one_layer() | text), written(tmp_path / "b.safetensors", text)
    assert list(read_adapter(both).text) == ["text_encoder.text_model.encoder.layers.0.mlp.fc1"]
    assert list(read_adapter(both, unet_only=True).layers) == [Q]
    assert "the 1 layers of its text encoder are left out" in caplog.text
    with pytest.raises(InputError, match="layers of the text encoder only"):
        read_adapter(alone, unet_only=True)


def test_a_loha_is_blended_with_a_plain_lora_and_drawn_by_diffusers(tiny_sd, adapter_files, tmp_path):
    """Its 1 x 1 convolutions are written as such, which a LoHa's tensors do not tell."""
    state, normal = {}, torch.Generator().manual_seed(3)
    for layer, module in adaptable_modules(base_unet(tiny_sd)).items():
        if layer.endswith(("to_k", "proj_in", "conv_shortcut", "conv1")):
            name, (m, n) = f"lora_unet_{layer.replace('.', '_')}", module.weight.flatten(1).shape
            for i in (1, 2):
                state[f"{name}.hada_w{i}_a"] = 0.3 * torch.randn(m, 2, generator=normal)
                state[f"{name}.hada_w{i}_b"] = torch.randn(2, n, generator=normal) / n**0.25
            state[f"{name}.alpha"] = torch.tensor(1.0)
    file = written(tmp_path / "loha.safetensors", state)
    for names in ("kohya", "diffusers"):
        write_lora(tmp_path / f"{names}.safetensors", read_lora(file).layers, {}, names)
        ours = in_process(tiny_sd, [file], [1.0])
        assert (ours - predict(base_unet(tiny_sd))).abs().max() > 1e-3
        assert torch.allclose(in_diffusers(tiny_sd, [tmp_path / f"{names}.safetensors"], [1.0]), ours, atol=1e-4)
    both = blend([read_adapter(file), read_adapter(adapter_files[1])], [0.6, 0.4])
    assert "down_blocks.0.attentions.0.proj_in" in both


@pytest.mark.parametrize(
    "notes", [{"ss_tag_frequency": '{"a": {"x": "5", "y": 3}}'}, {"ss_tag_frequency": "[" * 10**5}]
)
def test_odd_notes_are_no_reason_to_fail(tmp_path, notes):
    trigger = read_adapter(written(tmp_path / "k.safetensors", one_layer(), notes)).metadata.get("trigger")
    assert trigger == ("y" if "y" in notes["ss_tag_frequency"] else None)


def test_a_header_that_contradicts_the_tensors_is_said(tmp_path, caplog):
    config = {"unet.lora_alpha": 8, "unet.r": 2}
    state = peft() | {f"unet.{Q}.alpha": torch.tensor(2.0)}
    file = written(tmp_path / "k.safetensors", state, {CONFIG: json.dumps(config)})
    assert read_lora(file).layers[Q].alpha == 2.0
    assert "states alpha 2 as a tensor and 8 in its header" in caplog.text
    with pytest.raises(InputError, match=r"unreadable header entry .* \(a list\)"):
        read_lora(written(tmp_path / "l.safetensors", peft(), {CONFIG: "[1]"}))


@pytest.mark.parametrize(
    ("name", "state", "sentence"),
    [
        (
            "a.safetensors",
            {"cond_stage_model.a.weight": torch.ones(2)},
            "is a whole checkpoint, not a LoRA",
        ),
        ("checkpoints/best.ckpt", None, "is a checkpoint of `fit`; give the .safetensors file in the folder above"),
        ("a.pt", None, "is a pickle, which can run code"),
        (
            "inkgrl.safetensors",
            None,
            r"there is no .*inkgrl.safetensors, did you mean inkgirl.safetensors\?",
        ),
    ],
)
def test_what_people_give_by_mistake_is_named(tmp_path, name, state, sentence):
    written(tmp_path / "inkgirl.safetensors", one_layer())
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if state is not None:
        written(tmp_path / name, state)
    elif "inkgrl" not in name:
        (tmp_path / name).write_bytes(b"pickle")
    with pytest.raises(InputError, match=sentence):
        read_adapter(tmp_path / name)
