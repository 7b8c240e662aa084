"""`convert`: the same LoRA under other names."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stylelora.lora.convert import convert
from stylelora.lora.lora_file import read_lora
from stylelora.records import InputError

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FC = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
NOTES = {"ss_seed": "42", "ss_tag_frequency": '{"a": {"zqx": 3}}', "modelspec.title": "Ink", "anything": "else"}


@pytest.fixture
def file(tmp_path):
    """kohya's file of a query projection and a layer of the text encoder, of rank 2 and alpha 0.5."""
    normal, state = torch.Generator().manual_seed(0), {}
    for name in (f"lora_unet_{Q.replace('.', '_')}", "lora_te_text_model_encoder_layers_0_mlp_fc1"):
        state[f"{name}.lora_down.weight"] = torch.randn(2, 16, generator=normal)
        state[f"{name}.lora_up.weight"] = torch.randn(16, 2, generator=normal)
        state[f"{name}.alpha"] = torch.tensor(0.5)
    save_file(state, tmp_path / "ink.safetensors", metadata=NOTES)
    return tmp_path / "ink.safetensors"


def updates(path):
    return {layer: one.update.dense() for layer, one in read_lora(path).layers.items()}


@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
def test_there_and_back_the_update_and_the_notes_are_the_same(file, tmp_path, format, capsys):
    there = tmp_path / ("folder" if format == "peft" else "there.safetensors")
    convert(str(file), str(there), format=format)
    assert "1 layers of the UNet and 1 of the text encoder, of rank 2" in capsys.readouterr().out
    convert(str(there), str(tmp_path / "back.safetensors"))
    before, after = updates(file), updates(tmp_path / "back.safetensors")
    assert before.keys() == after.keys() == {Q, FC}
    assert all(torch.allclose(after[layer], one, atol=1e-6) for layer, one in before.items())
    assert NOTES.items() <= read_lora(tmp_path / "back.safetensors").metadata.items()


def test_to_its_own_names_every_bit_stays(file, tmp_path):
    convert(str(file), str(tmp_path / "same.safetensors"))
    old, new = load_file(file), load_file(tmp_path / "same.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(new[key], value) for key, value in old.items())


def test_a_smaller_type_says_what_it_changes(file, tmp_path, capsys):
    convert(str(file), str(tmp_path / "small.safetensors"), dtype="float16")
    said = capsys.readouterr().out
    exact, rounded = updates(file), updates(tmp_path / "small.safetensors")
    squares = [(sum(((exact[k] - rounded[k]) ** 2).sum() for k in exact)), sum((exact[k] ** 2).sum() for k in exact)]
    assert f"float16 changes the update by {float((squares[0] / squares[1]) ** 0.5):.2g} of its norm" in said
    assert {value.dtype for key, value in load_file(tmp_path / "small.safetensors").items() if "lora" in key} == {
        torch.float16,
        torch.float32,  # alpha
    }


def test_alpha_can_be_set_where_a_file_does_not_say_it(file, tmp_path):
    silent = {key: value for key, value in load_file(file).items() if not key.endswith(".alpha")}
    save_file(silent, tmp_path / "silent.safetensors")
    convert(str(tmp_path / "silent.safetensors"), str(tmp_path / "a.safetensors"), alpha=0.5)
    before, after = updates(file), updates(tmp_path / "a.safetensors")
    assert all(torch.allclose(after[layer], one, atol=1e-6) for layer, one in before.items())
    with pytest.raises(InputError, match="says its alpha itself; leave alpha out"):
        convert(str(file), str(tmp_path / "b.safetensors"), alpha=0.5)
    for alpha in (-1.0, 0.0):
        with pytest.raises(InputError, match=f"alpha {alpha}, which is not a number above 0"):
            convert(str(tmp_path / "silent.safetensors"), str(tmp_path / "b.safetensors"), alpha=alpha)
    assert not (tmp_path / "b.safetensors").exists()


def test_layers_without_alpha_beside_others_are_said_and_can_be_given_one(file, tmp_path, caplog):
    state = load_file(file)
    del state["lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"]
    save_file(state, tmp_path / "half.safetensors")
    assert read_lora(tmp_path / "half.safetensors").layers[FC].alpha == 2.0
    assert "does not say the alpha of lora_te_text_model_encoder_layers_0_mlp_fc1" in caplog.text
    layers = read_lora(tmp_path / "half.safetensors", alpha=1.0).layers
    assert (layers[FC].alpha, layers[Q].alpha) == (1.0, 0.5)


def test_what_vanishes_when_it_is_folded_is_said(file, tmp_path, capsys):
    state = {key: value * 1e-4 if "lora_up" in key else value for key, value in load_file(file).items()}
    state = {key: torch.tensor(1e-4) if key.endswith(".alpha") else value for key, value in state.items()}
    save_file(state, tmp_path / "faint.safetensors")
    convert(str(tmp_path / "faint.safetensors"), str(tmp_path / "a.safetensors"), format="diffusers", dtype="float16")
    exact, rounded = updates(tmp_path / "faint.safetensors"), updates(tmp_path / "a.safetensors")
    squares = [sum((exact[k] - rounded[k]).square().sum() for k in exact), sum(exact[k].square().sum() for k in exact)]
    assert float((squares[0] / squares[1]) ** 0.5) > 0.5
    assert f"changes the update by {float((squares[0] / squares[1]) ** 0.5):.2g} of its norm" in capsys.readouterr().out


def test_a_folder_is_not_written_into_while_it_is_read(file, tmp_path):
    convert(str(file), str(tmp_path / "folder"), format="peft")
    before = (tmp_path / "folder" / "unet" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(InputError, match="lies in, what is read"):
        convert(str(tmp_path / "folder"), str(tmp_path / "folder" / "unet" / "adapter_model.safetensors"))
    assert (tmp_path / "folder" / "unet" / "adapter_model.safetensors").read_bytes() == before
    (tmp_path / "folder" / "text_encoder" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"text_encoder has no adapter_config\.json"):
        read_lora(tmp_path / "folder")


def test_the_text_encoder_can_be_left_out(file, tmp_path, capsys):
    convert(str(file), str(tmp_path / "a.safetensors"), unet_only=True)
    assert "the 1 layers of the text encoder are left out" in capsys.readouterr().out
    assert updates(tmp_path / "a.safetensors").keys() == {Q}


@pytest.mark.parametrize(
    ("output", "sentence"),
    [("ink.safetensors", "give output another name"), ("b.pt", "end its name in .safetensors"), ("", "is a folder")],
)
def test_an_output_that_does_not_suit_is_refused(file, tmp_path, output, sentence):
    before = file.read_bytes()
    with pytest.raises(InputError, match=sentence):
        convert(str(file), str(tmp_path / output))
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_the_header_is_one_that_a1111_can_hash(file, tmp_path):
    convert(str(file), str(tmp_path / "a.safetensors"))
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert len(opened.metadata()["sshs_model_hash"]) == 64
