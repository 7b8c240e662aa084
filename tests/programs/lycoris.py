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


def write_products(layers, alpha=2.0):
    """Its `loha` and `lokr` of these layers: {algorithm: (tensors, {layer: change of its weight})}."""
    generator = torch.Generator().manual_seed(9)
    loha, lokr = ({}, {}), ({}, {})
    for layer, parts in layers.items():
        own, rows, kernel, rank = kohya.name(layer), len(parts.up), parts.down.shape[1:], 2
        width = kernel.numel()
        a1, a2 = (torch.randn(rows, rank, generator=generator) for _ in range(2))
        b1, b2 = (torch.randn(rank, width, generator=generator) for _ in range(2))
        loha[0].update({f"{own}.hada_w1_a": a1, f"{own}.hada_w1_b": b1, f"{own}.hada_w2_a": a2, f"{own}.hada_w2_b": b2})
        loha[1][layer] = (a1 @ b1) * (a2 @ b2) * alpha / rank
        first = torch.randn(2, 2, generator=generator)
        up = torch.randn(rows // 2, rank, generator=generator)
        down = torch.randn(rank, width // 2, generator=generator)
        lokr[0].update({f"{own}.lokr_w1": first, f"{own}.lokr_w2_a": up, f"{own}.lokr_w2_b": down})
        second = (up @ down).reshape(rows // 2, kernel[0] // 2, *kernel[1:])
        ones = [1] * (second.ndim - 2)
        lokr[1][layer] = torch.kron(first.reshape(2, 2, *ones), second).flatten(1) * alpha / rank
        for tensors, _ in (loha, lokr):
            tensors[f"{own}.alpha"] = torch.tensor(alpha)
    return {"loha": loha, "lokr": lokr}


def write_tucker(layer, shape, alpha=2.0):
    """Its `lora` with `use_tucker` of a 3x3 convolution: (tensors, the three convolutions one after the other)."""
    generator = torch.Generator().manual_seed(9)
    down = torch.randn(2, shape[1], 1, 1, generator=generator)
    mid = torch.randn(2, 2, *shape[2:], generator=generator)
    up = torch.randn(shape[0], 2, 1, 1, generator=generator)
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(alpha)}

    def forward(pictures):
        inner = torch.nn.functional.conv2d(torch.nn.functional.conv2d(pictures, down), mid, padding=1)
        return torch.nn.functional.conv2d(inner, up) * alpha / len(down)

    return {f"{kohya.name(layer)}.{part}": value for part, value in parts.items()}, forward


def write_others(layer, shape):
    """What its other algorithms write of one 3x3 convolution, which are no LoRAs: {algorithm: tensors}."""
    own, rows = kohya.name(layer), shape[0]
    lora = {"lora_down.weight": torch.ones(2, *shape[1:]), "lora_up.weight": torch.ones(rows, 2, 1, 1)}
    alpha = {"alpha": torch.tensor(1.0)}
    square = {f"{name}.weight": torch.ones(2, 2) for name in ("a1", "a2", "b1", "b2")}
    files = {
        "dora_wd": lora | alpha | {"dora_scale": torch.ones(rows, 1, 1, 1)},
        "full": {"diff": torch.ones(shape), "diff_b": torch.ones(rows)},
        "train_norm": lora | alpha | {"w_norm": torch.ones(rows), "b_norm": torch.ones(rows)},
        "ia3": {"weight": torch.ones(rows, 1, 1, 1), "on_input": torch.tensor(False)},
        "glora": square | alpha,
        "diag-oft": {"oft_blocks": torch.ones(2, 4, 4)} | alpha,
        "boft": {"oft_blocks": torch.ones(2, 2, 4, 4)} | alpha,
    }
    return {algorithm: {f"{own}.{part}": value for part, value in parts.items()} for algorithm, parts in files.items()}
