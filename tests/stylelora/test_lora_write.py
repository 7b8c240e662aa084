"""Adapter files: exact, complete or absent, readable by diffusers with the trained strength."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from stylelora.lora.blend import added
from stylelora.lora.factors import Layer
from stylelora.lora.inject import adapted_modules, adapter_parameters, inject_lora
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.lora.write import trained_layers, write_lora
from stylelora.records import InputError
from tests.tiny_sd import disturb, predict

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
SD15_NAMES = (Path(__file__).parents[1] / "data" / "sd15_attention_projections.txt").read_text().split()
NOTES = {"base": "tiny", "style": "watercolor", "trigger": "in wtr style", "target_modules": "to_q,to_k"}
RANK, ALPHA = 4, 10.0


def load_base(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval()


def adapted(tiny_sd, target_modules=TARGETS):
    """A UNet whose adapter has been moved away from its start."""
    unet = load_base(tiny_sd)
    inject_lora(unet, RANK, ALPHA, 0.0, target_modules, seed=0)
    disturb(unet)
    return unet


@pytest.fixture(scope="module")
def trained(tiny_sd):
    return adapted(tiny_sd)


@pytest.fixture
def layers(trained):
    return trained_layers(adapted_modules(trained))


@pytest.fixture
def file(layers, tmp_path):
    path = tmp_path / "run" / "run.safetensors"
    write_lora(path, layers, NOTES)
    return path


def test_layers_are_those_of_stable_diffusion_with_the_trained_weights(trained, layers):
    assert sorted(layers) == sorted(SD15_NAMES)
    theirs = get_peft_model_state_dict(trained, adapter_name="style")
    for name, layer in layers.items():
        assert torch.equal(layer.down, theirs[f"{name}.lora_A.weight"])
        assert torch.equal(layer.up, theirs[f"{name}.lora_B.weight"])
        assert layer.down.dtype == torch.float32
        assert (layer.alpha, layer.rank) == (ALPHA, RANK)


def test_layers_are_a_copy(tiny_sd):
    unet = adapted(tiny_sd, ["to_q"])
    layers = trained_layers(adapted_modules(unet))
    before = {name: layer.down.clone() for name, layer in layers.items()}
    with torch.no_grad():
        for parameter in adapter_parameters(unet):
            parameter.zero_()
    assert all(torch.equal(layers[name].down, value) for name, value in before.items())


@pytest.mark.parametrize("names", ["kohya", "diffusers"])
@pytest.mark.parametrize("target_modules", [TARGETS, ["conv1", "to_q", "conv_in", "proj_in"]])
def test_diffusers_loads_the_file_with_the_trained_strength(tiny_sd, tmp_path, names, target_modules):
    def through_diffusers(path):
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
        pipeline.load_lora_weights(path)
        return predict(pipeline.unet.eval())

    unet = adapted(tiny_sd, target_modules)
    layers, expected = trained_layers(adapted_modules(unet)), predict(unet)
    write_lora(tmp_path / "a.safetensors", layers, NOTES, names)
    assert torch.allclose(through_diffusers(tmp_path / "a.safetensors"), expected, atol=1e-5)
    # The comparison must be able to fail: without alpha, diffusers takes alpha = rank.
    bare = {k: v for k, v in load_file(tmp_path / "a.safetensors").items() if not k.endswith(".alpha")}
    save_file(bare, tmp_path / "bare.safetensors", metadata={"format": "pt"})
    right = torch.allclose(through_diffusers(tmp_path / "bare.safetensors"), expected, atol=1e-5)
    assert right is (names == "diffusers"), "there, alpha is folded into the weights"
    ours = load_base(tiny_sd)
    with added(ours, read_adapter(tmp_path / "a.safetensors").layers):
        assert torch.allclose(predict(ours), expected, atol=1e-5)


@pytest.mark.parametrize("names", ["kohya", "diffusers", "peft"])
def test_what_is_written_is_read_again(layers, tmp_path, names):
    """Also ranks and alphas of each layer's own, and the notes."""
    mixed = {
        name: Layer(layer.down[: 1 + index % 3], layer.up[:, : 1 + index % 3], 1.0 + index % 4)
        for index, (name, layer) in enumerate(layers.items())
    }
    path = tmp_path / ("folder" if names == "peft" else "a.safetensors")
    write_lora(path, mixed, NOTES, names)
    again = read_lora(path)
    assert again.layers.keys() == mixed.keys()
    assert again.states_alpha
    for name, layer in mixed.items():
        assert again.layers[name].rank == layer.rank
        assert torch.allclose(again.layers[name].update.dense(), layer.update.dense(), atol=1e-6)
        assert names != "kohya" or again.layers[name].alpha == 1.0, "diffusers loses others"
    if names != "peft":
        assert NOTES.items() <= again.metadata.items()


def test_peft_loads_a_folder_of_the_unet(tiny_sd, layers, trained, tmp_path):
    from peft import PeftModel

    write_lora(tmp_path / "folder", layers, {}, "peft")
    loaded = PeftModel.from_pretrained(load_base(tiny_sd), tmp_path / "folder" / "unet")
    assert torch.allclose(predict(loaded.base_model.model.eval()), predict(trained), atol=1e-5)
    with pytest.raises(InputError, match="exists; PEFT needs the name of a new folder"):
        write_lora(tmp_path / "folder", layers, {}, "peft")


def test_a_second_adapter_is_refused(trained, file):
    with (
        pytest.raises(ValueError, match="already carries an adapter: style"),
        added(trained, read_adapter(file).layers),
    ):
        pass


def test_kohyas_header_states_what_its_programs_show(file, layers):
    content, metadata = file.read_bytes(), read_adapter(file).metadata
    assert NOTES.items() <= metadata.items()
    assert metadata["ss_network_module"] == "networks.lora"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("4", "10.0")
    size = int.from_bytes(content[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(content[8 + size :]).hexdigest()
    mixed = {
        n: Layer(one.down[:r], one.up[:, :r], ALPHA) for r, (n, one) in zip([2, 3] * 99, layers.items(), strict=False)
    }
    write_lora(file, mixed, {})
    assert read_adapter(file).metadata["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_smaller_type_rounds_the_weights_and_keeps_alpha(layers, tmp_path, dtype):
    write_lora(
        tmp_path / "a.safetensors", {n: Layer(one.down, one.up, 0.1) for n, one in layers.items()}, {}, dtype=dtype
    )
    for name, one in read_lora(tmp_path / "a.safetensors").layers.items():
        assert one.alpha == pytest.approx(0.1, rel=1e-7)
        assert torch.equal(one.down, layers[name].down.to(getattr(torch, dtype)))
        assert torch.equal(one.up, layers[name].up.to(getattr(torch, dtype)))


@pytest.mark.parametrize(
    ("name", "change", "names", "sentence"),
    [
        ("a.safetensors", {"alpha": 0.0}, "kohya", "alpha 0.0, which is not a number above 0"),
        ("a.safetensors", {"alpha": float("inf")}, "kohya", "alpha inf"),
        ("a.pt", {}, "kohya", r"would be a .pt; end its name in .safetensors"),
        ("a", {}, "diffusers", "file without suffix; end its name"),
        ("a.safetensors", {}, "peft", "is the name of a file; PEFT needs the name of a new folder"),
    ],
)
def test_saving_what_nobody_could_read_is_refused(layers, tmp_path, name, change, names, sentence):
    changed = {layer: dataclasses.replace(one, **change) for layer, one in layers.items()}
    with pytest.raises(InputError, match=sentence):
        write_lora(tmp_path / name, changed, {}, names)
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_adapter_is_not_saved(layers, tmp_path):
    layers[SD15_NAMES[0]].up[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"NaN or infinite weights in down_blocks"):
        write_lora(tmp_path / "a.safetensors", layers, {})
    layers[SD15_NAMES[0]].up[0, 0] = 1e5
    with pytest.raises(InputError, match=r"too large for this type; write float32 or bfloat16"):
        write_lora(tmp_path / "a.safetensors", layers, {}, dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_would_be_0_in_half_precision_is_not_saved(layers, tmp_path):
    layers[SD15_NAMES[0]] = dataclasses.replace(layers[SD15_NAMES[0]], up=layers[SD15_NAMES[0]].up * 1e-12)
    with pytest.raises(InputError, match=r"too small for float16 and would all be 0; write float32"):
        write_lora(tmp_path / "a.safetensors", layers, {}, dtype="float16")
    assert list(tmp_path.iterdir()) == []
    layers[SD15_NAMES[0]] = dataclasses.replace(layers[SD15_NAMES[0]], up=layers[SD15_NAMES[0]].up * 0)
    write_lora(tmp_path / "a.safetensors", layers, {}, dtype="float16")  # as a LoRA begins


def fail_write(monkeypatch):
    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)


def corrupt_write(monkeypatch):
    import safetensors.torch

    honest = safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda *a, **k: honest(*a, **k)[:-1] + b"\x7f")


def short_write(monkeypatch):
    import safetensors.torch

    honest = safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda *a, **k: honest(*a, **k)[:-8])


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(fail_write, "No space left"), (corrupt_write, "reads back different"), (short_write, "reads back different")],
)
def test_failed_write_leaves_the_old_file_or_none(layers, tmp_path, monkeypatch, fault, sentence):
    path = tmp_path / "a.safetensors"
    for old in (None, b"old"):
        if old:
            path.write_bytes(old)
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(OSError, match=sentence):
                write_lora(path, layers, {})
        assert [item.read_bytes() for item in tmp_path.iterdir()] == ([old] if old else [])


def test_a_kill_at_any_moment_leaves_no_half_file(layers, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    seen = []
    for name in ("fsync", "replace"):

        def watch(*args, honest=getattr(os, name)):
            seen.append((path.read_bytes(), [item.name for item in tmp_path.glob("*.safetensors")]))
            return honest(*args)

        monkeypatch.setattr(os, name, watch)
    write_lora(path, layers, {})
    assert seen[:2] == [(b"old", [path.name])] * 2, "until it is complete, the new file is under another name"
    assert read_lora(path).layers[SD15_NAMES[0]].alpha == ALPHA
    assert list(tmp_path.iterdir()) == [path]


def test_weights_of_another_layout_are_stored_exactly(layers, tmp_path):
    turned = {n: Layer(one.down.double().t().contiguous().t(), one.up, ALPHA) for n, one in layers.items()}
    write_lora(tmp_path / "a.safetensors", turned, {})
    loaded = read_lora(tmp_path / "a.safetensors").layers
    assert all(torch.equal(loaded[name].down, one.down) for name, one in layers.items())
