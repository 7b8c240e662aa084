"""What the UNet of a single-file checkpoint predicts: noise (`epsilon`), or `v_prediction`, as SD 2.x at 768 px.

The shapes of the weights do not tell. The first that says it counts: a `.yaml` of the same name, as A1111 reads it; the
file's notes; ComfyUI's marker `v_pred`. Otherwise SD 1.x predicts the noise, and SD 2.x is judged by its weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Container, Mapping
from pathlib import Path

from stylelora.records import InputError
from stylelora.texts import read_yaml

log = logging.getLogger(__name__)

_NAMES = {"v": "v_prediction", "v_prediction": "v_prediction", "eps": "epsilon", "epsilon": "epsilon"}
_BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def usual_prediction(configs: Path) -> str:
    """Return what a folder of configurations says."""
    return json.loads((configs / "scheduler" / "scheduler_config.json").read_text())["prediction_type"]


def said_prediction(path: Path, notes: Mapping[str, str], keys: Container[str]) -> str | None:
    """Return what the checkpoint says of itself; None if it says nothing.

    Args:
        path: the checkpoint.
        notes: metadata of its header.
        keys: names of its tensors.

    Raises:
        InputError: a `.yaml` lies beside it and does not say what it predicts.
    """
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        try:
            return _NAMES[read_yaml(beside)["model"]["params"].get("parameterization", "eps")]
        except (InputError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{beside} is read as the description of {path.name}, so it must hold 'model: {{params: "
                "{parameterization: v}}' or the same with eps; correct it or rename it"
            ) from error
    said = _NAMES.get(notes.get("modelspec.prediction_type", ""))
    return said or ("v_prediction" if "v_pred" in keys else None)


def likely_prediction(path: Path) -> str:
    """Judge an SD 2.x by its weights, and log it: by ComfyUI's rule, one bias is spread wider if it predicts v."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        spread = float(file.get_tensor(_BIAS).float().std(correction=0)) if _BIAS in file.keys() else 0.0
    chosen, other = ("v_prediction", "eps") if spread > 0.09 else ("epsilon", "v")
    log.warning(
        "%s does not say what it predicts; by its weights it is %s (ComfyUI's rule). If even the base's own samples "
        "are noise, write 'model: {params: {parameterization: %s}}' to %s",
        *(path, chosen, other, path.with_suffix(".yaml")),
    )
    return chosen
