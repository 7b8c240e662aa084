"""Adapter files: exact, complete or absent, readable by diffusers with the trained strength."""

import os
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from stylelora.lora.blend import added
from stylelora.lora.inject import adapter_parameters, inject_lora
from stylelora.lora.read import read_adapter
from stylelora.lora.write import adapter_state, save_adapter
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
def state(trained):
    return adapter_state(trained)


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "run" / "adapter.safetensors"
    save_adapter(path, state, rank=RANK, alpha=ALPHA, metadata=NOTES)
    return path


def test_keys_are_those_of_stable_diffusion(state):
    expected = {f"unet.{name}.lora_{factor}.weight" for name in SD15_NAMES for factor in "AB"}
    assert state.keys() == expected
    assert all(t.dtype == torch.float32 and t.is_contiguous() and not t.requires_grad for t in state.values())


def test_keys_are_those_diffusers_writes(trained, state):
    from peft.utils import get_peft_model_state_dict

    theirs = get_peft_model_state_dict(trained, adapter_name="style")
    packed = StableDiffusionPipeline.pack_weights(theirs, "unet")
    assert packed.keys() == state.keys()
    assert all(torch.equal(packed[key], state[key]) for key in state)


def test_state_is_a_copy(tiny_sd):
    unet = adapted(tiny_sd, ["to_q"])
    state = adapter_state(unet)
    before = {key: value.clone() for key, value in state.items()}
    with torch.no_grad():
        for parameter in adapter_parameters(unet):
            parameter.zero_()
    assert all(torch.equal(state[key], before[key]) for key in state)


def test_diffusers_loads_the_file_with_the_trained_alpha(tiny_sd, trained, file, tmp_path):
    def through_diffusers(path):
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
        pipeline.load_lora_weights(path)
        return predict(pipeline.unet.eval())

    expected = predict(trained)
    assert torch.allclose(through_diffusers(file), expected, atol=1e-5)
    # The comparison must be able to fail: no alpha in the file, which diffusers reads as alpha = rank.
    save_file(adapter_state(trained), tmp_path / "bare.safetensors", metadata={"format": "pt"})
    assert not torch.allclose(through_diffusers(tmp_path / "bare.safetensors"), expected, atol=1e-2)


@pytest.mark.parametrize("target_modules", [TARGETS, ["conv1", "to_q", "conv_in", "proj_in"]])
def test_a_saved_adapter_loaded_again_gives_the_same_model(tiny_sd, tmp_path, target_modules):
    unet = adapted(tiny_sd, target_modules)
    path = tmp_path / "a.safetensors"
    save_adapter(path, adapter_state(unet), rank=RANK, alpha=ALPHA, metadata=NOTES)
    again, notes = load_base(tiny_sd), read_adapter(path).metadata
    assert (notes["rank"], notes["alpha"]) == (str(RANK), str(ALPHA))
    inject_lora(again, int(notes["rank"]), float(notes["alpha"]), 0.0, target_modules, seed=1)
    weights = {key.removeprefix("unet."): value for key, value in load_file(path).items()}
    set_peft_model_state_dict(again, weights, adapter_name="style")
    assert torch.equal(predict(again), predict(unet))
    restored = adapter_state(again)
    assert all(torch.equal(restored[key], value) for key, value in adapter_state(unet).items())
    ours = load_base(tiny_sd)
    with added(ours, read_adapter(path).layers):
        assert torch.allclose(predict(ours), predict(unet), atol=1e-5)


def test_a_second_file_is_refused(trained, file):
    with (
        pytest.raises(ValueError, match="already carries an adapter: style"),
        added(trained, read_adapter(file).layers),
    ):
        pass


def test_header_carries_the_notes(file, state):
    adapter = read_adapter(file)
    assert load_file(file).keys() == state.keys()
    assert sorted(adapter.layers) == sorted(SD15_NAMES)
    assert adapter.metadata == NOTES | {"rank": "4", "alpha": "10.0"}


@pytest.mark.parametrize("change", [{"rank": 8}, {"alpha": 0.0}, {"alpha": float("inf")}])
def test_saving_with_wrong_numbers_is_refused(state, tmp_path, change):
    with pytest.raises(InputError):
        save_adapter(tmp_path / "a.safetensors", state, **({"rank": RANK, "alpha": ALPHA, "metadata": {}} | change))
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_adapter_is_not_saved(state, tmp_path):
    state[f"unet.{SD15_NAMES[0]}.lora_B.weight"][0, 0] = torch.nan
    with pytest.raises(InputError, match=r"NaN or infinite weights in unet\.down_blocks"):
        save_adapter(tmp_path / "a.safetensors", state, rank=RANK, alpha=ALPHA, metadata={})
    assert list(tmp_path.iterdir()) == []


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
def test_failed_write_leaves_the_old_file_or_none(state, tmp_path, monkeypatch, fault, sentence):
    path = tmp_path / "a.safetensors"
    for old in (None, b"old"):
        if old:
            path.write_bytes(old)
        with monkeypatch.context() as patch:
            fault(patch)
            with pytest.raises(OSError, match=sentence):
                save_adapter(path, state, rank=RANK, alpha=ALPHA, metadata={})
        assert [item.read_bytes() for item in tmp_path.iterdir()] == ([old] if old else [])


def test_a_kill_at_any_moment_leaves_no_half_file(state, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    seen = []
    for name in ("fsync", "replace"):

        def watch(*args, honest=getattr(os, name)):
            seen.append((path.read_bytes(), [item.name for item in tmp_path.glob("*.safetensors")]))
            return honest(*args)

        monkeypatch.setattr(os, name, watch)
    save_adapter(path, state, rank=RANK, alpha=ALPHA, metadata={})
    assert seen == [(b"old", [path.name])] * 2, "until it is complete, the new file is under another name"
    assert float(read_adapter(path).metadata["alpha"]) == ALPHA
    assert list(tmp_path.iterdir()) == [path]


def test_merged_weights_of_another_layout_are_stored_exactly(state, tmp_path):
    doubled = {key: value.double().t().contiguous().t() for key, value in state.items()}
    save_adapter(tmp_path / "a.safetensors", doubled, rank=RANK, alpha=ALPHA, metadata={})
    loaded = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
