"""A base that cannot be read: the sentence says what is wrong with the thing that was given."""

import fnmatch
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from stylelora.base import single_file
from stylelora.base.folders import check_folder, download
from stylelora.base.load import load_text_encoder, load_unet, load_vae, resolve_base
from stylelora.records import InputError
from tests.ldm import checkpoint_state, copy_configs, write_checkpoint

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
FIRST, LABEL = f"{UNET}input_blocks.0.0.weight", f"{UNET}label_emb.0.0.weight"

KEYS = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(scope="module")
def whole(tiny_sd):
    return checkpoint_state(*(load(tiny_sd) for load in (load_unet, load_vae, load_text_encoder)))


@pytest.fixture
def configs(tiny_sd, tmp_path, monkeypatch):
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    copy_configs(tiny_sd, tmp_path / "configs" / "tiny")


def refusal(path):
    with pytest.raises(InputError) as caught:
        resolve_base(str(path))
    said = str(caught.value)
    assert said.startswith(str(path))
    for wrong in ("does not exist", "not there", "hub"):
        assert wrong not in said
    return said


def without(state, *prefixes):
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def only(state, prefix, new=""):
    return {new + name.removeprefix(prefix): value.clone() for name, value in state.items() if name.startswith(prefix)}


ONE = torch.zeros(1)
OTHERS = {
    "SDXL": (lambda s: s | {"conditioner.embedders.1.model.ln_final.bias": ONE}, "is an SDXL checkpoint"),
    "unCLIP": (lambda s: s | {LABEL: ONE}, f"SDXL, unCLIP or an upscaler .it has {LABEL}.; give"),
    "SD 3": (lambda s: {f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": ONE}, "is a newer model, such as SD 3"),
    "ControlNet": (lambda s: s | {"control_model.input_hint_block.0.bias": ONE}, "is a ControlNet"),
    "inpainting": (lambda s: s | {FIRST: torch.zeros(16, 9, 3, 3)}, "is made for inpainting: .* 9 channels"),
    "pix2pix": (lambda s: s | {FIRST: torch.zeros(16, 8, 3, 3)}, "is made for editing, as .* 8 channels"),
    "other input": (lambda s: s | {FIRST: torch.zeros(16, 6, 3, 3)}, "another model: its UNet takes 6 channels"),
    "flat input": (lambda s: s | {FIRST: torch.zeros(16)}, "another model: its UNet takes 0 channels"),
    "flat text": (lambda s: s | {KEYS: torch.zeros(32)}, "its UNet is 16 wide and takes text embeddings of 0"),
    "other width": (lambda s: s | {FIRST: torch.zeros(24, 4, 3, 3)}, "no Stable Diffusion .*: its UNet is 24 wide"),
    "kohya's LoRA": (lambda s: {"lora_unet_mid_block.lora_up.weight": ONE}, "a LoRA, not a base .it has .*; give it"),
    "diffusers' LoRA": (lambda s: {"unet.mid_block.to_q.lora_A.weight": ONE}, "is a LoRA, not a base"),
    "LoHa": (lambda s: {"lycoris_mid_block.hada_w1_a": ONE}, "is a LoRA, not a base"),
    "embedding": (lambda s: {"emb_params": ONE}, "is an embedding"),
    "VAE": (lambda s: only(s, VAE), "is a VAE alone"),
    "VAE with prefix": (lambda s: only(s, VAE, VAE), "not a whole checkpoint: it has no UNet .* and no text encoder"),
    "UNet alone": (lambda s: only(s, UNET, UNET), "it has no VAE .* and no text encoder"),
    "no text encoder": (lambda s: without(s, TEXT), r"it has no text encoder \(cond_stage_model\.\*\); give one with"),
    "EMA only": (lambda s: without(s, UNET) | {"model_ema.diffusion_modelout2bias": ONE}, "has its UNet only as EMA"),
    "diffusers' UNet": (lambda s: {"down_blocks.0.resnets.0.conv1.bias": ONE}, "is the UNet alone.*model_index.json"),
    "text encoder": (lambda s: {"text_model.final_layer_norm.bias": ONE}, "is a text encoder alone"),
    "something else": (lambda s: {"layer.weight": ONE}, r"no Stable Diffusion checkpoint \(it has layer.weight\)"),
    "nothing": (lambda s: {}, r"no Stable Diffusion checkpoint \(it has nothing\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_is_called_what_it_is(kind, whole, configs, tmp_path):
    change, expected = OTHERS[kind]
    said = refusal(write_checkpoint(tmp_path / "model.safetensors", change(whole)))
    assert re.search(expected, said), said


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.ckpt", b"PK\3\4", "is pickled.*give it as .safetensors"),
        ("a.PT", b"PK\3\4", "is pickled"),
        ("a.safetensors", b"", "is cut off, damaged or no safetensors file .* download it again"),
        ("a.safetensors", b"\xff" * 100, "is cut off, damaged or no safetensors file"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n", "Git LFS's"),
        ("a.safetensors", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("a.gguf", b"GGUF" + bytes(60), "no safetensors file"),
    ],
)
def test_what_is_no_safetensors_file(name, content, expected, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert re.search(expected, refusal(tmp_path / name))


def test_a_truncated_file(whole, tmp_path):
    file = write_checkpoint(tmp_path / "a.safetensors", whole)
    for size in (file.stat().st_size - 1, 1000, 8):
        file.write_bytes(file.read_bytes()[:size])
        assert "is cut off, damaged or no safetensors file" in refusal(file)


CLIP = f"{TEXT}transformer.text_model."
# What is loaded, how it is called, what is wrong with it, and the end of the sentence.
PARTS = {
    "lacks a weight": (
        load_unet, "UNet", lambda s: without(s, f"{UNET}middle_block.1.norm.bias"),
        "it lacks what diffusers calls mid_block.attentions.0.norm.bias$",
    ),
    "lacks a block": (
        load_unet, "UNet", lambda s: without(s, f"{UNET}output_blocks.11.0"),
        "it lacks what diffusers calls up_blocks.3.resnets.2.norm1.weight, .* more$",
    ),
    "lacks the middle": (load_vae, "VAE", lambda s: without(s, f"{VAE}encoder.mid.attn_1.q"), "it lacks .*to_q.weight"),
    "lacks a layer": (
        load_text_encoder, "text encoder", lambda s: without(s, f"{CLIP}encoder.layers.1"),
        "it lacks what diffusers calls encoder.layers.1.self_attn.k_proj.weight, .* more$",
    ),
    "has more": (
        load_vae, "VAE", lambda s: s | {f"{VAE}encoder.more.bias": torch.zeros(5)},
        f"it also has {VAE}encoder.more.bias$",
    ),
    "has one more block": (
        load_unet, "UNet", lambda s: s | {f"{UNET}output_blocks.12.0.out_layers.0.bias": torch.zeros(5)},
        f"it also has {UNET}output_blocks.12.0.out_layers.0.bias$",
    ),
    "has one more layer": (
        load_text_encoder, "text encoder", lambda s: s | only(s, f"{CLIP}encoder.layers.1", f"{CLIP}encoder.layers.2"),
        f"it also has {CLIP}encoder.layers.2.layer_norm1.bias, .* more$",
    ),
    "has other shapes": (
        load_vae, "VAE", lambda s: s | {f"{VAE}quant_conv.bias": torch.zeros(9)},
        "other shapes have what diffusers calls quant_conv.bias$",
    ),
    "is quantised": (
        load_unet, "", lambda s: s | {FIRST: s[FIRST].to(torch.int8)},
        f"is quantised .{FIRST}.; give it in float16 or float32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_that_is_not_that_of_stable_diffusion(kind, whole, configs, tmp_path):
    load, part, change, expected = PARTS[kind]
    changed = change(whole)
    assert changed.keys() != whole.keys() or "has other" in kind or "quant" in kind
    file = resolve_base(str(write_checkpoint(tmp_path / "a.safetensors", changed)))
    with pytest.raises(InputError, match=expected) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert part in str(caught.value)


def test_what_is_not_read_is_said(whole, configs, tmp_path, caplog):
    resolve_base(str(write_checkpoint(tmp_path / "a.safetensors", whole)))
    assert not caplog.records
    more = {"model_ema.diffusion_modelout2bias": torch.zeros(1), "other": torch.zeros(1), "note": torch.zeros(1)}
    resolve_base(str(write_checkpoint(tmp_path / "b.safetensors", whole | more)))
    ema, rest = (record.getMessage() for record in caplog.records)
    assert "also has EMA weights" in ema
    assert rest.endswith("b.safetensors has weights that are not read: note, other")


@pytest.mark.parametrize("text", ["", "a: b", "model: {params: {parameterization: x0}}", "model: [", "\0"])
def test_a_yaml_beside_the_file_that_does_not_describe_it(text, whole, configs, tmp_path):
    file = write_checkpoint(tmp_path / "a.safetensors", whole)
    file.with_suffix(".yaml").write_text(text)
    with pytest.raises(InputError, match=r"a.yaml is read as the description of a.safetensors.*correct it or rename"):
        resolve_base(str(file))


@pytest.fixture
def folder(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "sd")


def test_a_folder_of_float16_weights(folder, tiny_sd):
    for part, load in {"unet": load_unet, "vae": load_vae, "text_encoder": load_text_encoder}.items():
        (plain,) = (folder / part).glob("*.safetensors")
        plain.unlink()
        half = load(tiny_sd).half()
        half.save_pretrained(folder / part, variant="fp16")
        (written,) = (folder / part).glob("*.safetensors")
        assert written.name == f"{plain.stem}.fp16.safetensors"
        read = load(resolve_base(str(folder))).state_dict()
        assert all(torch.equal(read[name], value.float()) for name, value in half.state_dict().items())
        assert {value.dtype for value in read.values()} == {torch.float32}
        half.float().save_pretrained(folder / part)  # both there: the plain file is read
        marked = {name: value + 1 for name, value in load(tiny_sd).state_dict().items()}
        save_file(marked, folder / part / plain.name, metadata={"format": "pt"})
        read = load(resolve_base(str(folder))).state_dict()
        assert all(torch.equal(read[name], value) for name, value in marked.items())


def test_a_folder_of_shards(folder, tiny_sd):
    unet = load_unet(tiny_sd)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="1MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    read = load_unet(resolve_base(str(folder))).state_dict()
    assert all(torch.equal(read[name], value) for name, value in unet.state_dict().items())


@pytest.mark.parametrize(
    ("renamed", "expected"),
    [
        ("diffusion_pytorch_model.bin", r"unet has only pickled weights \(diffusion_pytorch_model.bin\).*save_pretr"),
        ("diffusion_pytorch_model.non_ema.safetensors", r"unet has no diffusion_pytorch_model.safetensors \(it has"),
        ("../x", "unet has no diffusion_pytorch_model.safetensors; download it again$"),
    ],
)  # fmt: skip
def test_a_folder_without_weights_that_are_read(folder, renamed, expected):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.parent / renamed)
    with pytest.raises(InputError, match=expected):
        resolve_base(str(folder))


def test_a_folder_of_single_files(whole, tmp_path):
    file = write_checkpoint(tmp_path / "model.safetensors", whole)
    assert f"for a single-file checkpoint give the file itself, such as {file}" in refusal(tmp_path)


def test_a_file_that_is_really_missing():
    for name in ("models/a.safetensors", "a.ckpt"):
        with pytest.raises(InputError, match=f"^base '{name}' does not exist"):
            resolve_base(name)


def test_the_home_folder_may_be_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_base("~/sd") == folder


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A hub that has what is in `folder`; what is asked for is copied to the folder that it returns."""
    asked, local = [], tmp_path / "snapshot"

    def snapshot_download(name, allow_patterns):
        assert name == "owner/name"
        asked.append(allow_patterns)
        for file in folder.rglob("*"):
            place = file.relative_to(folder)
            if file.is_file() and any(fnmatch.fnmatch(place.as_posix(), pattern) for pattern in allow_patterns):
                (local / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, local / place)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return local, asked


def test_from_the_hub_float16_comes_only_where_there_is_nothing_else(folder, hub, tiny_sd):
    local, asked = hub
    unet, vae = folder / "unet", folder / "vae"
    load_unet(tiny_sd).half().save_pretrained(unet, variant="fp16")
    load_vae(tiny_sd).half().save_pretrained(vae, variant="fp16")
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    (unet / "diffusion_pytorch_model.non_ema.safetensors").touch()
    assert download("owner/name") == local
    assert len(asked) == 2
    there = {file.relative_to(local).as_posix() for file in local.rglob("*.safetensors")}
    plain = {"vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}
    assert there == {"unet/diffusion_pytorch_model.fp16.safetensors", *plain}
    assert check_folder(local) == local


def test_from_the_hub_shards_come_whole(folder, hub, tiny_sd):
    local, asked = hub
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    load_unet(tiny_sd).save_pretrained(folder / "unet", max_shard_size="1MB")
    download("owner/name")
    assert len(asked) == 1
    names = [{file.name for file in one.glob("unet/*")} for one in (folder, local)]
    assert names[0] == names[1] and len(names[0]) > 3
