"""Single-file checkpoints in the naming of the original code, written from diffusers folders by walking the modules."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip


def _put(state, module, name, renamed=None):
    """Add a module's tensors under a prefix, its children's names replaced where `renamed` has them."""
    for key, value in module.state_dict().items():
        child, dot, rest = key.partition(".")
        state[f"{name}.{(renamed or {}).get(child, child)}{dot}{rest}"] = value.clone()


def unet_state(unet) -> dict[str, torch.Tensor]:
    """Names as `openaimodel.UNetModel` builds them: blocks are counted through, whatever they hold."""
    state = {}
    _put(state, unet.time_embedding.linear_1, "time_embed.0")
    _put(state, unet.time_embedding.linear_2, "time_embed.2")
    _put(state, unet.conv_in, "input_blocks.0.0")
    number = 1
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", [None] * len(block.resnets))
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            _put(state, resnet, f"input_blocks.{number}.0", RESNET)
            if attention is not None:
                _put(state, attention, f"input_blocks.{number}.1")
            number += 1
        for sampler in block.downsamplers or ():
            _put(state, sampler.conv, f"input_blocks.{number}.0.op")
            number += 1
    _put(state, unet.mid_block.resnets[0], "middle_block.0", RESNET)
    _put(state, unet.mid_block.attentions[0], "middle_block.1")
    _put(state, unet.mid_block.resnets[1], "middle_block.2", RESNET)
    number = 0
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", [None] * len(block.resnets))
        for place, (resnet, attention) in enumerate(zip(block.resnets, attentions, strict=True), start=1):
            inside = [resnet] + [attention] * (attention is not None)
            _put(state, resnet, f"output_blocks.{number}.0", RESNET)
            if attention is not None:
                _put(state, attention, f"output_blocks.{number}.1")
            if place == len(block.resnets) and block.upsamplers:
                _put(state, block.upsamplers[0].conv, f"output_blocks.{number}.{len(inside)}.conv")
            number += 1
    _put(state, unet.conv_norm_out, "out.0")
    _put(state, unet.conv_out, "out.2")
    return {f"model.diffusion_model.{name}": value for name, value in state.items()}


def vae_state(vae) -> dict[str, torch.Tensor]:
    """Names as `autoencoder.AutoencoderKL` builds them: attention by 1x1 convolutions, up blocks counted downwards."""
    state = {}
    _put(state, vae.quant_conv, "quant_conv")
    _put(state, vae.post_quant_conv, "post_quant_conv")
    for side, net in (("encoder", vae.encoder), ("decoder", vae.decoder)):
        for ours, theirs in (("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out")):
            _put(state, getattr(net, ours), f"{side}.{theirs}")
        middle = net.mid_block
        for i in range(2):
            _put(state, middle.resnets[i], f"{side}.mid.block_{i + 1}", {"conv_shortcut": "nin_shortcut"})
        for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("group_norm", "norm")):
            _put(state, getattr(middle.attentions[0], ours), f"{side}.mid.attn_1.{theirs}")
        _put(state, middle.attentions[0].to_out[0], f"{side}.mid.attn_1.proj_out")
        for name in ("q", "k", "v", "proj_out"):
            state[f"{side}.mid.attn_1.{name}.weight"] = state[f"{side}.mid.attn_1.{name}.weight"][:, :, None, None]
        down = side == "encoder"
        blocks = net.down_blocks if down else net.up_blocks
        for i, block in enumerate(blocks if down else reversed(blocks)):
            level = f"{side}.{'down' if down else 'up'}.{i}"
            for j, resnet in enumerate(block.resnets):
                _put(state, resnet, f"{level}.block.{j}", {"conv_shortcut": "nin_shortcut"})
            for sampler in (block.downsamplers if down else block.upsamplers) or ():
                _put(state, sampler.conv, f"{level}.{'down' if down else 'up'}sample.conv")
    return {f"first_stage_model.{name}": value for name, value in state.items()}


def clip_state(encoder) -> dict[str, torch.Tensor]:
    """Names in SD 1.x: those of transformers 4, with a buffer that is no weight."""
    prefix = "cond_stage_model.transformer.text_model."
    state = {f"{prefix}{name}": value.clone() for name, value in encoder.state_dict().items()}
    return state | {f"{prefix}embeddings.position_ids": torch.arange(77)[None]}


def open_clip_state(encoder) -> dict[str, torch.Tensor]:
    """Names in SD 2.x: those of open_clip, whose attention has one matrix, with a last layer that SD does not use."""
    width = encoder.config.hidden_size
    state = {
        "positional_embedding": encoder.embeddings.position_embedding.weight.detach().clone(),
        "text_projection": torch.full((width, width), 7.0),
        "logit_scale": torch.tensor(4.6),
        "attn_mask": torch.zeros(77, 77),
    }
    _put(state, encoder.embeddings.token_embedding, "token_embedding")
    _put(state, encoder.final_layer_norm, "ln_final")
    layers = encoder.encoder.layers
    for i, layer in enumerate([*layers, layers[0]]):
        name = f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            parts = [getattr(getattr(layer.self_attn, f"{one}_proj"), kind).detach() for one in "qkv"]
            state[f"{name}.attn.in_proj_{kind}"] = torch.cat(parts)
        _put(state, layer.self_attn.out_proj, f"{name}.attn.out_proj")
        _put(state, layer.layer_norm1, f"{name}.ln_1")
        _put(state, layer.layer_norm2, f"{name}.ln_2")
        _put(state, layer.mlp, f"{name}.mlp", {"fc1": "c_fc", "fc2": "c_proj"})
    return {f"cond_stage_model.model.{name}": value for name, value in state.items()}


def checkpoint_state(unet, vae, encoder) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, with the noise schedule that the original files hold."""
    text = open_clip_state(encoder) if encoder.config.hidden_act == "gelu" else clip_state(encoder)
    state = unet_state(unet) | vae_state(vae) | text
    return (
        state
        | {"betas": torch.linspace(0, 1, 1000), "model_ema.decay": torch.tensor(0.9)}
        | {"alphas_cumprod_prev": torch.linspace(0, 1, 1000)}
    )


def write_checkpoint(path: Path, state, **notes) -> Path:
    """Write a single file."""
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata={"format": "pt"} | notes)
    return path


def copy_configs(folder: Path, target: Path, **unet) -> Path:
    """Copy a diffusers folder without its weights; `unet` replaces values of the UNet's configuration."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    file = target / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | unet))
    return target
