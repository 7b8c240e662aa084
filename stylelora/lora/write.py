"""Write LoRA files that other programs read with the right strength; completely, or not at all.

kohya's names, with an alpha tensor in each layer, are read by every program. In diffusers' names alpha is folded into
the weights, so that a reader that ignores headers is right, too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stylelora.files import new_folder, replacing, safetensors_bytes, write
from stylelora.lora.check_file import CONFIG, check_alpha, read_file
from stylelora.lora.factors import Layer, stacked, truncated
from stylelora.lora.inject import ADAPTER
from stylelora.lora.names import MODELS, TEXT_ENCODER, diffusers_name, kohya_name, parts, peft_name
from stylelora.records import InputError, some

#: How keys are named.
Naming = Literal["kohya", "diffusers", "peft"]
#: The type of the weights; alpha stays float32.
DType = Literal["float32", "float16", "bfloat16"]
SUFFIX = ".safetensors"
# Notes that describe tensors as another program wrote them.
_OF_FORMAT = re.compile(r"ss_network_(module|dim|alpha|args)|sshs_(model|legacy)_hash|modelspec\.hash_sha256")


def trained_layers(modules: Mapping[str, nn.Module]) -> dict[str, Layer]:
    """Copy an adapter's weights, fp32 on the CPU.

    alpha is that by which every program scales by alpha / rank. What started at the base's singular values (PiSSA) is
    the change since then, of at most twice the rank, so that it is a LoRA of the base itself.

    Args:
        modules: layers with an adapter from `inject_lora`, by name.
    """
    layers = {}
    for name, module in modules.items():
        alpha, rank = float(module.lora_alpha[ADAPTER]), module.r[ADAPTER]
        alpha *= math.sqrt(rank) if module.use_rslora[ADAPTER] else 1
        one = Layer(_copy(module.lora_A[ADAPTER].weight), _copy(module.lora_B[ADAPTER].weight), alpha)
        if hasattr(module, "initial_A"):
            start = Layer(_copy(module.initial_A), _copy(module.initial_B), alpha).update
            change = stacked([one.update, start.scaled(-1)])
            # Both are as large as the base's weights; their difference is small, and is rounded as such.
            one = Layer.of(truncated(change, 2 * rank), one.kernel)
        layers[name] = one
    return layers


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def vanishing(layers: Mapping[str, Layer], dtype: DType) -> list[str]:
    """Return the layers of which all of A or of B, though not 0, would be 0 in a type."""
    to = getattr(torch, dtype)
    return [name for name, one in layers.items() if _vanishes(one.down, to) or _vanishes(one.up, to)]


def write_lora(
    path: Path,
    layers: Mapping[str, Layer],
    metadata: Mapping[str, str],
    names: Naming = "kohya",
    dtype: DType = "float32",
) -> None:
    """Write a LoRA completely or not at all; after an error or a kill `path` is unchanged.

    Args:
        path: file to write or replace, *.safetensors; for `peft` a new folder. Folders above it are made.
        layers: layers by their names here.
        metadata: metadata for the header; "sshs_model_hash", by which A1111 knows a file, is added.
        names: key names.
        dtype: type of the weights.

    Raises:
        InputError: there are no layers, their weights are not finite in this type, or all of a layer are 0 in it alone,
            or the path does not suit.
        OSError: the file could not be written, or reads back different.
    """
    _check(path, layers, names)
    to = getattr(torch, dtype)
    if faint := vanishing(layers, dtype):
        raise InputError(f"weights in {some(faint)} are too small for {dtype} and would all be 0; write float32.")
    header = {key: value for key, value in metadata.items() if not _OF_FORMAT.fullmatch(key)} | {"format": "pt"}
    if names == "peft":
        return _write_folders(path, layers, header, to)
    if names == "kohya":
        layers, state = with_one_alpha(layers), {}
        for layer, one in layers.items():
            name = kohya_name(layer)
            state |= {f"{name}.lora_down.weight": one.down.to(to), f"{name}.lora_up.weight": one.up.to(to)}
            state[f"{name}.alpha"] = torch.tensor(one.alpha)
        ranks, alphas = ({getattr(one, what) for one in layers.values()} for what in ("rank", "alpha"))
        header["ss_network_module"] = "networks.lora"
        header["ss_network_dim"] = str(*ranks) if len(ranks) == 1 else "Dynamic"  # kohya's word for mixed ranks
        header["ss_network_alpha"] = str(*alphas) if len(alphas) == 1 else "Dynamic"
    else:
        state = _folded_state(layers, diffusers_name, to)
        configs = zip(("unet.", TEXT_ENCODER), parts(layers), strict=True)
        said = {f"{part}{key}": value for part, own in configs if own for key, value in lora_config(own).items()}
        header[CONFIG] = json.dumps(said, sort_keys=True)
    return _write_whole(path, state, header)


def _folded_state(layers: Mapping[str, Layer], name_of: Callable[[str], str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors with alpha folded into them, under PEFT's ends of names."""
    state = {}
    for layer, one in layers.items():
        state[f"{name_of(layer)}.lora_A.weight"] = one.down.to(dtype)
        state[f"{name_of(layer)}.lora_B.weight"] = folded(one, one.rank).to(dtype)
    return state


def folded(layer: Layer, alpha: float) -> Tensor:
    """Return `up` for another alpha, so that the update stays; fp32, or unchanged for its own alpha."""
    return layer.up if layer.alpha == alpha else layer.up.float() * (layer.alpha / alpha)


def with_one_alpha(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the same updates with one alpha for the UNet and one for the text encoder, the most common ones.

    diffusers 0.42 takes the most common alpha for many layers of a kohya file that states others.
    """
    made = {}
    for part in parts(layers):
        for alpha, _ in Counter(layer.alpha for layer in part.values()).most_common(1):  # none of an empty part
            made |= {name: Layer(one.down, folded(one, alpha), alpha) for name, one in part.items()}
    return made


def lora_config(layers: Mapping[str, Layer]) -> dict[str, Any]:
    """Return PEFT's LoraConfig of layers whose alpha is folded into their weights.

    PEFT matches the ends of names, so names without `text_model` suit transformers 4 and 5.
    """
    ranks = {peft_name(layer).removeprefix("base_model.model."): one.rank for layer, one in layers.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: one for name, one in ranks.items() if one != rank}
    # diffusers 0.35 needs both patterns, also where there is nothing in them.
    pattern = {"rank_pattern": others, "alpha_pattern": others}
    return {"r": rank, "lora_alpha": rank, "target_modules": list(ranks), **pattern}


def _check(path: Path, layers: Mapping[str, Layer], names: str) -> None:
    if names != "peft" and path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file, such as blend{SUFFIX}")
    if names != "peft" and path.suffix != SUFFIX:
        raise InputError(
            f"{path} would be a {path.suffix or 'file without suffix'}; end its name in {SUFFIX}, which other programs "
            "read without running code"
        )
    there = path.exists() or path.is_symlink()
    if names == "peft" and (there or path.suffix == SUFFIX):
        found = "exists" if there else "is the name of a file"
        raise InputError(f"{path} {found}; PEFT needs the name of a new folder")
    if not layers:
        raise InputError("the adapter has no layers; it is not saved.")
    for one in layers.values():
        check_alpha(one.alpha, "the adapter")
    if broken := [layer for layer, one in layers.items() if not _finite(one.down, one.up)]:
        raise InputError(f"the adapter has NaN or infinite weights in {some(broken)}; it is not saved.")


def _finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(one.float()).all()) for one in tensors)  # float8 has no isfinite of its own


def _vanishes(tensor: Tensor, to: torch.dtype) -> bool:
    return bool(tensor.float().any()) and not bool(tensor.to(to).float().any())


def _write_folders(path: Path, layers: Mapping[str, Layer], header: Mapping[str, str], dtype: torch.dtype) -> None:
    """Write a PEFT folder for each model, `unet` and `text_encoder`."""
    with new_folder(path) as partial:
        for folder, own in zip(MODELS, parts(layers), strict=True):
            if not own:
                continue
            state = _folded_state(own, peft_name, dtype)
            _write_whole(partial / folder / "adapter_model.safetensors", state, header)
            config = {"peft_type": "LORA", "bias": "none", "inference_mode": True, **lora_config(own)}
            write(partial / folder / "adapter_config.json", json.dumps(config, indent=2) + "\n")


def _write_whole(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file, verify it by reading it back, and only then move it into place."""
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    if broken := [key for key, value in state.items() if not _finite(value)]:
        raise InputError(f"weights in {some(broken)} are too large for this type; write float32 or bfloat16.")
    content = safetensors_bytes(state, {})
    size = int.from_bytes(content[:8], "little")
    header = {**header, "sshs_model_hash": hashlib.sha256(content[8 + size :]).hexdigest()}  # of all but the header
    with replacing(path) as file:
        file.write(safetensors_bytes(state, header))
        file.flush()
        if not _reads_back(Path(file.name), state, header):
            raise OSError(errno.EIO, "reads back different from what was written", str(path))


def _reads_back(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> bool:
    """Return whether a file has exactly this content; compared as bytes, because 0.0 equals -0.0."""
    try:
        written, said = read_file(path)
    except InputError:
        return False
    if said != header or written.keys() != state.keys():
        return False
    return all(torch.equal(_bytes(written[key]), _bytes(state[key])) for key in state)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.flatten().view(torch.uint8)
