"""KohakuBlueleaf/LyCORIS f49d30d6 (2025-10-04): lycoris/kohya.py, lycoris/modules/locon.py. Of its algorithms only
`lora` (`locon`) without Tucker decomposition, `dora_wd` and `train_norm` is a plain LoRA."""

import torch

from tests.programs import kohya
from tests.programs.layers import Refused, product


def apply(tensors, header, shapes):
    """It looks a name up among all modules, and drops what it does not find without a word."""
    names = {kohya.name(layer): layer for layer in shapes}
    updates = {}
    for own in dict.fromkeys(key.partition(".")[0] for key in tensors):
        if own not in names:
            continue
        if f"{own}.alpha" not in tensors:
            raise Refused("TypeError: float(None), as it needs an alpha in every layer")
        if not {f"{own}.lora_up.weight", f"{own}.lora_down.weight"} <= tensors.keys():
            raise Refused(f"not a LoRA: {own}")
        down = tensors[f"{own}.lora_down.weight"]
        if down.ndim != len(shapes[names[own]]):
            raise Refused(f"size mismatch for {own}")
        alpha = float(tensors[f"{own}.alpha"]) or len(down)
        updates[names[own]] = product(tensors[f"{own}.lora_up.weight"], down, alpha / len(down), shapes[names[own]])
    return updates, [key for key in tensors if names.get(key.partition(".")[0]) not in updates]


def write(layers, dtype=torch.float16):
    tensors, header = kohya.write(layers, dtype)
    return tensors, header | {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "lora"}'}


def write_others(layer, shape):
    """Of one layer what its other algorithms write: {algorithm: tensors}."""
    own, rows, columns = kohya.name(layer), shape[0], torch.Size(shape[1:]).numel()
    lora = {"lora_down.weight": torch.ones(2, *shape[1:]), "lora_up.weight": torch.ones(rows, 2)}
    alpha = {"alpha": torch.tensor(1.0)}
    files = {
        "loha": {f"hada_w{i}_a": torch.ones(rows, 2) for i in (1, 2)}
        | {f"hada_w{i}_b": torch.ones(2, columns) for i in (1, 2)}
        | alpha,
        "lokr": {"lokr_w1": torch.ones(4, 4), "lokr_w2": torch.ones(rows // 4, columns // 4)} | alpha,
        "full": {"diff": torch.ones(shape), "diff_b": torch.ones(rows)},
        "dora": lora | alpha | {"dora_scale": torch.ones(rows, 1)},
        "tucker": lora | alpha | {"lora_mid.weight": torch.ones(2, 2, 3, 3)},
        "norm": {"w_norm": torch.ones(rows), "b_norm": torch.ones(rows)},
        "ia3": {"weight": torch.ones(rows), "on_input": torch.tensor(False)},
        "glora": {"a1.weight": torch.ones(2, 2), "a2.weight": torch.ones(2, 2), "b1.weight": torch.ones(2, 2),
                  "b2.weight": torch.ones(2, 2)} | alpha,
        "diag-oft": {"oft_blocks": torch.ones(2, 4, 4)} | alpha,
        "boft": {"oft_blocks": torch.ones(2, 2, 4, 4)} | alpha,
    }  # fmt: skip
    return {algorithm: {f"{own}.{part}": value for part, value in parts.items()} for algorithm, parts in files.items()}
