"""Read the LoRA files of the programs that people use, as they stand."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylelora.lora.check_file import CONFIG, check_plain, configs_of, layer_from, read_file, said_alpha
from stylelora.lora.factors import Layer
from stylelora.lora.names import MODELS, TEXT_ENCODER, is_text, layer_of, split_key
from stylelora.lora.patterns import with_patterns
from stylelora.lora.products import is_product, product, with_kernels
from stylelora.records import InputError, some
from stylelora.texts import read_object

log = logging.getLogger(__name__)

# The first match is reported, so put problems without a fix before those with one.
_REFUSED = {
    r"^(text_encoder_2|lora_te2)": "is a LoRA for SDXL, as its second text encoder shows; give one for SD 1.x or 2.x",
    r"\b(oft|boft|ia3|glora)_|\b[ab][12]\.weight$|\.(diff(_b)?|on_input)$|\b[wb]_norm$": "changes weights as no LoRA "
    "can (OFT, IA3, GLoRA, full or norm layers); extract a LoRA from the base and the merged model, as sd-scripts does",
    r"dora_scale|lora_magnitude_vector": "is a DoRA, whose strength depends on the base's weights; give a plain LoRA",
    r"lora.*\.bias$": "changes biases, too, which a blend cannot; train it without lora_bias",
}
# Embeddings (textual inversion), which a file may hold beside a LoRA.
_EMBEDDINGS = re.compile(r"bundle_emb\..*|emb_params")
_CHECKPOINT = ("cond_stage_model.", "first_stage_model.", "conditioner.")


@dataclass(frozen=True)
class LoRAFile:
    """A LoRA file as it stands.

    Attributes:
        layers: tensors of each layer by its name here (`stylelora.lora.names`), of the file's dtype.
        metadata: metadata of the header, without what describes the format.
        sha256: of the file.
        states_alpha: whether the file says the alpha of every layer; where it does not, alpha is the rank.
    """

    layers: dict[str, Layer]
    metadata: dict[str, str]
    sha256: str
    states_alpha: bool


def read_lora(path: Path | str, alpha: float | None = None) -> LoRAFile:
    """Read a LoRA of Stable Diffusion 1.x or 2.x, of any float dtype and with a rank and alpha per layer.

    Key names may be those of kohya (also with Stable Diffusion's own block names), ComfyUI, OneTrainer, diffusers (also
    old ones) and PEFT; `path` may be a folder that PEFT wrote, or one with such folders `unet` and `text_encoder`.

    Args:
        path: safetensors file or PEFT folder.
        alpha: alpha of the layers of which the file does not say it; None: the rank, as other programs take it.

    Raises:
        InputError: there is no such file, it is no safetensors file, or holds something else than finite weights of
            complete LoRA layers of such a model. Nothing is dropped silently.
    """
    path = Path(path)
    if path.is_dir() and not (path / "adapter_config.json").is_file():
        return _read_folders(path, alpha)
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    state, header = read_file(file)
    for pattern, problem in _REFUSED.items():
        if found := [key for key in state if re.search(pattern, key)]:
            raise InputError(f"{path} {problem} (it holds {some(found)}).")
    if any(key.startswith(_CHECKPOINT) for key in state):
        raise InputError(f"{path} is a whole checkpoint, not a LoRA; give it as base.")
    if embeddings := [key for key in state if _EMBEDDINGS.fullmatch(key)]:
        state = {key: value for key, value in state.items() if key not in embeddings}
        if not state:
            raise InputError(f"{path} holds embeddings only (textual inversion), no LoRA; they cannot be used.")
        what = "embeddings (textual inversion), which are left out; load them in your program"
        say(f"{path} also holds {what} ({some(embeddings)})")
    if whole := [key for key, value in state.items() if not value.is_floating_point() and not key.endswith("alpha")]:
        raise InputError(f"{path} has weights that are no floating-point numbers in {some(whole)}.")
    if broken := [key for key, value in state.items() if not torch.isfinite(value.float()).all()]:
        raise InputError(f"{path} has NaN or infinite weights in {some(broken)}; its training failed.")
    tensors, spelled = _by_layer(state, path)
    configs = configs_of(header, str(path))
    beside_it = file.with_name("adapter_config.json")
    if peft := beside_it.is_file() and file.name == "adapter_model.safetensors":
        configs = dict.fromkeys(("", TEXT_ENCODER), _peft_config(beside_it))
    layers, silent = {}, []
    for layer, given in tensors.items():
        name, config = spelled[layer], configs[TEXT_ENCODER if is_text(layer) else ""]
        one = _layer(given, layer, name, path)
        said = None if is_product(given) else said_alpha(config, layer, one.rank, f"{path} ({name})")
        if "alpha" not in given:
            silent += [name] if said is None else []
            said = alpha if said is None else said
            one = one if said is None else _layer(given | {"alpha": torch.tensor(said).double()}, layer, name, path)
        elif said not in (None, one.alpha):
            both = f"alpha {one.alpha:g} as a tensor and {said:g} in its header"
            say(f"{path} states {both}, such as of {name}; the tensor counts")
        layers[layer] = one
    if alpha is not None and not silent:
        raise InputError(f"{path} says its alpha itself; leave alpha out.")
    if silent and alpha is None:
        where = "" if len(silent) == len(layers) else f" of {some(silent)}"
        say(f"{path} does not say the alpha{where}; it is read as the rank, as elsewhere (`convert --alpha` sets it)")
    notes = {key: value for key, value in header.items() if key not in ("format", CONFIG)}
    digest = hashlib.sha256(file.read_bytes() + (beside_it.read_bytes() if peft else b"")).hexdigest()
    return LoRAFile(with_kernels(layers, tensors), notes, digest, not silent)


def _layer(given: dict[str, Tensor], layer: str, name: str, path: Path) -> Layer:
    one = product(given, layer, name, str(path)) if is_product(given) else layer_from(given, name, str(path))
    if not all(torch.isfinite(factor.float()).all() for factor in (one.down, one.up)):  # unlike its tensors
        raise InputError(f"{path} has weights in {name} whose product is too large for any number; lower them.")
    return one


def _by_layer(state: dict[str, Tensor], path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Return the tensors of each layer, and the layer's name as the file spells it."""
    tensors: dict[str, dict[str, Tensor]] = {}
    spelled: dict[str, str] = {}
    keys = {key: split_key(key) for key in state}
    if not any(keys.values()):
        raise InputError(f"{path} has no LoRA weights of a UNet or text encoder; it has {some(state)}.")
    if strangers := [key for key, found in keys.items() if found is None]:
        raise InputError(f"{path} holds keys that are not LoRA weights of a UNet or text encoder: {some(strangers)}.")
    layers = {name: layer_of(name) for name, _ in keys.values()}
    if others := [name for name, layer in layers.items() if layer is None]:
        raise InputError(f"{path} was made for another model, such as SDXL; SD 1.5 has no {some(others)}.")
    for key, (name, tensor) in keys.items():
        layer = layers[name]
        if spelled.setdefault(layer, name) != name or tensor in tensors.setdefault(layer, {}):
            raise InputError(f"{path} holds a layer under two names: {spelled[layer]} and {key}.")
        tensors[layer][tensor] = state[key]
    return tensors, spelled


def _read_folders(path: Path, alpha: float | None) -> LoRAFile:
    known = [path / name for name in MODELS if (path / name / "adapter_config.json").is_file()]
    if not known:
        files = sorted(one.name for one in path.glob("*.safetensors"))
        inside = f"; it holds {some(files)}: name one of them" if files else " of PEFT"
        raise InputError(f"there is no adapter file {path}: it is a folder without adapter_config.json{inside}.")
    if strange := [path / name for name in MODELS if (path / name).is_dir() and path / name not in known]:
        raise InputError(f"{strange[0]} has no adapter_config.json of PEFT, so the LoRA in {path} is not whole.")
    found = [read_lora(folder, alpha) for folder in known]
    layers = {layer: one for file in found for layer, one in file.layers.items()}
    notes = {key: value for file in found for key, value in file.metadata.items()}
    digest = hashlib.sha256("".join(file.sha256 for file in found).encode()).hexdigest()
    return LoRAFile(layers, notes, digest, all(file.states_alpha for file in found))


def _peft_config(path: Path) -> dict[str, Any]:
    config = read_object(path)
    check_plain(config, str(path))
    return with_patterns(config, str(path))


@functools.cache
def say(sentence: str) -> None:
    """Say something once."""
    log.warning(sentence)
