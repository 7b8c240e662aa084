"""Single-file checkpoints: the same bits as the same weights in a folder, and the shapes of the real ones."""

import hashlib
import json

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from stylelora.base import single_file
from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    native_resolution,
    part_hash,
    resolve_base,
    size_step,
)
from tests.ldm import checkpoint_state, copy_configs, write_checkpoint
from tests.tiny_sd import build_tiny_sd

LOADERS = {"unet": load_unet, "vae": load_vae, "text_encoder": load_text_encoder}
# What is published of the real checkpoints.
PARAMETERS = {"sd-1": (859_520_964, 83_653_863, 123_060_480), "sd-2": (865_910_724, 83_653_863, 340_387_840)}


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        value.dtype == torch.float32 and torch.equal(value, second[name]) for name, value in first.items()
    )


def state_of(folder):
    return checkpoint_state(*(load(resolve_base(str(folder))) for load in LOADERS.values()))


@pytest.fixture(scope="module")
def sd1(tiny_sd):
    return state_of(tiny_sd)


@pytest.fixture
def tiny_configs(tiny_sd, tmp_path, monkeypatch):
    """The tiny layout takes the place of the real ones."""
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    return copy_configs(tiny_sd, tmp_path / "configs" / "tiny")


def test_each_part_equals_the_folder_bit_for_bit(tiny_sd, sd1, tiny_configs, tmp_path):
    file = resolve_base(str(write_checkpoint(tmp_path / "a.safetensors", sd1)))
    before = torch.get_rng_state()
    for load in LOADERS.values():
        assert same_weights(load(file), load(tiny_sd))
        assert not any(p.requires_grad or p.data_ptr() % 64 for p in load(file).parameters())
        assert not load(file).training
    assert torch.equal(torch.get_rng_state(), before)
    assert load_scheduler(file).config == load_scheduler(tiny_sd).config
    assert load_tokenizer(file)(["a fox"]).input_ids == load_tokenizer(tiny_sd)(["a fox"]).input_ids
    assert (size_step(file), native_resolution(file)) == (size_step(tiny_sd), native_resolution(tiny_sd))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_in_float32(tiny_sd, sd1, tiny_configs, tmp_path, dtype):
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in sd1.items()}
    file = resolve_base(str(write_checkpoint(tmp_path / "half.safetensors", state)))
    for load in LOADERS.values():
        assert same_weights(load(file), load(tiny_sd).to(dtype).float())


def test_names_of_earlier_and_later_code_are_read_too(tiny_sd, sd1, tiny_configs, tmp_path):
    old = {name.replace("transformer.text_model.", "transformer."): value for name, value in sd1.items()}
    new = {name.replace("cond_stage_model.", "conditioner.embedders.0."): value for name, value in sd1.items()}
    for name, state in {"old": old, "new": new}.items():
        assert state.keys() != sd1.keys()
        file = resolve_base(str(write_checkpoint(tmp_path / f"{name}.safetensors", state)))
        assert same_weights(load_text_encoder(file), load_text_encoder(tiny_sd))


def test_the_hash_follows_the_part_alone(sd1, tiny_configs, tmp_path):
    other = sd1 | {(key := "first_stage_model.quant_conv.bias"): sd1[key] + 1}
    files = [
        resolve_base(str(write_checkpoint(tmp_path / f"{i}.safetensors", one, note=str(i))))
        for i, one in enumerate((sd1, sd1, other))
    ]
    hashes = {part: [part_hash(file, part) for file in files] for part in (*LOADERS, "tokenizer")}
    assert all(first == second for first, second, _ in hashes.values())
    assert [part for part, (first, _, third) in hashes.items() if first != third] == ["vae"]
    assert len({first for first, *_ in hashes.values()}) == len(hashes)


@pytest.fixture(scope="module")
def sd2(tiny_sd, tmp_path_factory):
    """The tiny base in the layout of SD 2.x: other attention heads, linear projections, open_clip's text encoder."""
    folder = tmp_path_factory.mktemp("sd2") / "sd2"
    return build_tiny_sd(folder, sd2=True)


@pytest.fixture
def tiny_sd2_configs(sd2, tmp_path, monkeypatch):
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    copy_configs(sd2, tmp_path / "configs" / "base")
    large = copy_configs(sd2, tmp_path / "configs" / "large", sample_size=12)
    scheduler = large / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))


def test_sd2_equals_the_folder_bit_for_bit(sd2, tiny_sd2_configs, tmp_path):
    state = state_of(sd2)
    assert "cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight" in state  # one more than is used
    file = resolve_base(str(write_checkpoint(tmp_path / "a.safetensors", state)))
    for load in LOADERS.values():
        assert same_weights(load(file), load(sd2))


BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize(
    ("spread", "changes", "notes", "yaml", "v"),
    [
        (0.05, {}, {}, None, False),
        (0.2, {}, {}, None, True),
        (0.2, {}, {"modelspec.prediction_type": "epsilon"}, None, False),
        (0.05, {}, {"modelspec.prediction_type": "v"}, None, True),
        (0.05, {"v_pred": torch.zeros(1)}, {}, None, True),
        (0.05, {}, {"modelspec.prediction_type": "epsilon"}, "model: {params: {parameterization: v}}", True),
        (0.2, {}, {}, "model: {params: {timesteps: 1000}}", False),
    ],
)
def test_what_sd2_predicts(sd2, tiny_sd2_configs, tmp_path, spread, changes, notes, yaml, v, caplog):
    state = state_of(sd2)
    bias = torch.linspace(-1, 1, len(state[BIAS]))
    state |= changes | {BIAS: bias / bias.std(correction=0) * spread}
    file = write_checkpoint(tmp_path / "a.safetensors", state, **notes)
    if yaml:
        file.with_suffix(".yaml").write_text(yaml)
    base = resolve_base(str(file))
    assert load_scheduler(base).config.prediction_type == ("v_prediction" if v else "epsilon")
    assert native_resolution(base) == (96 if v else 64)
    assert ("does not say what it predicts" in caplog.text) == (not (changes or notes or yaml))


def test_an_sd1_that_says_so_predicts_v(sd1, tiny_configs, tmp_path, caplog):
    file = write_checkpoint(tmp_path / "v.safetensors", sd1)
    file.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}")
    assert load_scheduler(resolve_base(str(file))).config.prediction_type == "v_prediction"
    file = write_checkpoint(tmp_path / "eps.safetensors", sd1)
    plain = load_scheduler(resolve_base(str(file)))
    assert plain.config.prediction_type == "epsilon" and plain.alphas_cumprod[-1] > 1e-3
    marked = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}  # ComfyUI's markers
    scheduler = load_scheduler(resolve_base(str(write_checkpoint(tmp_path / "z.safetensors", sd1 | marked))))
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.alphas_cumprod[-1] == 0
    assert "not read" not in caplog.text


def real_parts(name):
    configs = single_file.CONFIGS / name
    with torch.device("meta"):
        yield UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet"))
        yield AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae"))
        yield CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder"))


def write_sparse(path, state):
    """A file of the size of the real one, that takes no room: zeros where weights would be."""
    header, end = {}, 0
    for name, value in state.items():
        size = value.numel() * 2
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


@pytest.mark.parametrize(("name", "tensors"), [("sd-1", (686, 248, 196)), ("sd-2", (686, 248, 372))])
def test_the_real_shapes(name, tensors, tmp_path):
    parts = list(real_parts(name))
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == PARAMETERS[name]
    assert tuple(len(part.state_dict()) for part in parts) == tensors
    file = write_sparse(tmp_path / "real.safetensors", checkpoint_state(*parts))
    file.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}")
    base = resolve_base(str(file))
    checkpoint = single_file.open_checkpoint(base)
    assert checkpoint.configs.name == name
    assert (native_resolution(base), size_step(base)) == ((512, 64) if name == "sd-1" else (768, 64))


def test_the_names_and_shapes_of_the_real_sd15():
    """The digest is that of a published list of what v1-5-pruned-emaonly.safetensors holds."""
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    state = checkpoint_state(*real_parts("sd-1")).items()
    shapes = sorted((name, list(value.shape)) for name, value in state if name.startswith(prefixes))
    assert len(shapes) == 1131
    digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
    assert digest == "edfffc6de0d6fa2cc4ab0facc5a45247c71c5308ec4b1d0af0412a1e620f0413"


def test_the_tokens_of_clip(tmp_path):
    for name, pad in {"sd-1": 49407, "sd-2": 0, "sd-2-base": 0}.items():
        file = write_sparse(tmp_path / f"{name}.safetensors", checkpoint_state(*real_parts(name)))
        file.with_suffix(".yaml").write_text(
            f"model: {{params: {{parameterization: {'v' if name == 'sd-2' else 'eps'}}}}}"
        )
        tokenizer = load_tokenizer(resolve_base(str(file)))
        assert len(tokenizer) == 49408
        assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
        assert tokenizer("Jekyll's café, 2024").input_ids == [49406, 49405, 568, 15304, 267, 273, 271, 273, 275, 49407]
        padded = tokenizer("", padding="max_length", truncation=True, max_length=tokenizer.model_max_length).input_ids
        assert padded == [49406, 49407] + [pad] * 75
