"""LoRA files as PEFT, diffusers and kohya's trainer write them are read as these apply them, or refused."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from stylelora.lora.blend import as_layers, blend
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter, read_adapters
from stylelora.lora.write import write_lora
from stylelora.pretraining.networks import mini_unet
from stylelora.records import InputError
from tests.adapters import EVERYTHING, base_unet, in_diffusers, in_process
from tests.lora_files import KOHYA_Q, Q, kohya, one_layer, written
from tests.tiny_sd import disturb, predict


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


@pytest.mark.parametrize(
    "notes", [{"ss_tag_frequency": '{"a": {"x": "5", "y": 3}}'}, {"ss_tag_frequency": "[" * 10**5}]
)
def test_odd_notes_are_no_reason_to_fail(tmp_path, notes):
    trigger = read_adapter(written(tmp_path / "k.safetensors", one_layer(), notes)).metadata.get("trigger")
    assert trigger == ("y" if "y" in notes["ss_tag_frequency"] else None)


def test_notes_have_one_order_although_the_library_gives_another_each_time(adapter_files):
    """A merged file holds the notes of its sources: it would have other bytes each time."""
    for _ in range(8):
        notes = read_lora(adapter_files[0]).metadata
        assert list(notes) == sorted(notes) and len(notes) > 4
