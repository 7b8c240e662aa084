"""What cannot be read whole is refused, in a sentence that names the keys as they stand in the file."""

import json

import pytest
import torch

from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.records import InputError
from tests.lora_files import CONFIG, CONV, KOHYA_Q, Q, also, one_layer, peft, written

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
    with pytest.raises(InputError, match=f"bad.safetensors.*{sentence}"):
        read_adapter(file)


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
    "list": (peft(), {"rank_pattern": ["to_q"]}, ": rank_pattern is unreadable"),
    "number": (peft(), {"alpha_pattern": 3}, ": alpha_pattern is unreadable"),
    "regex": (peft(), {"alpha_pattern": {"(": 3}}, ": alpha_pattern is unreadable"),
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
    with pytest.raises(InputError, match=f"bad.safetensors.*{sentence}"):
        read_adapter(file)


def test_missing_and_damaged_files_are_refused(adapter_files, tmp_path):
    with pytest.raises(InputError, match="there is no adapter file"):
        read_adapter(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(adapter_files[0].read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a safetensors file, or is damaged"):
        read_adapter(tmp_path / "bad.safetensors")


def test_pickles_are_refused(tmp_path):
    torch.save(one_layer(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a.pt is a pickle, .* save it as .safetensors"):
        read_adapter(tmp_path / "a.pt")


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


def test_embeddings_beside_a_lora_are_left_out_and_said(tmp_path, caplog):
    file = written(tmp_path / "b.safetensors", also("bundle_emb.style.string_to_param.*"))
    assert list(read_adapter(file).layers) == [Q]
    assert "embeddings (textual inversion), which are left out" in caplog.text
    assert "bundle_emb.style" in caplog.text


def test_a_header_that_contradicts_the_tensors_is_said(tmp_path, caplog):
    config = {"unet.lora_alpha": 8, "unet.r": 2}
    state = peft() | {f"unet.{Q}.alpha": torch.tensor(2.0)}
    file = written(tmp_path / "k.safetensors", state, {CONFIG: json.dumps(config)})
    assert read_lora(file).layers[Q].alpha == 2.0
    assert "states alpha 2 as a tensor and 8 in its header" in caplog.text
    with pytest.raises(InputError, match=r"unreadable header entry .* \(a list\)"):
        read_lora(written(tmp_path / "l.safetensors", peft(), {CONFIG: "[1]"}))
