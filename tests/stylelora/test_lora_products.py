"""LoHa, LoKr and LoCon's Tucker form are the updates that their modules compute."""

import pytest
import torch

from stylelora.lora.blend import blend
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.lora.write import write_lora
from tests.adapters import base_unet, in_diffusers, in_process
from tests.lora_files import CONV, written
from tests.tiny_sd import predict


def test_a_tucker_decomposition_is_the_lora_that_its_three_convolutions_make(tmp_path):
    """As sd-scripts' and LyCORIS' modules compute it: down 1 x 1, mid 3 x 3, up 1 x 1."""
    normal = torch.Generator().manual_seed(0)
    down, mid, up = (torch.randn(*shape, generator=normal) for shape in ((4, 16, 1, 1), (4, 4, 3, 3), (16, 4, 1, 1)))
    names = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    file = written(tmp_path / "t.safetensors", {f"{CONV}.{name}": value for name, value in names.items()})
    update = read_adapter(file).layers["down_blocks.0.resnets.0.conv1"].dense().view(16, 16, 3, 3)
    x = torch.randn(1, 16, 8, 8, generator=normal)
    conv = torch.nn.functional.conv2d
    want = conv(conv(conv(x, down), mid, padding=1), up) * (2.0 / 4)
    assert torch.allclose(conv(x, update, padding=1), want, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 8])
@pytest.mark.parametrize("layer", ["down_blocks.0.attentions.0.proj_in", "down_blocks.1.resnets.0.conv2"])
def test_a_loha_is_the_product_entry_by_entry(tmp_path, rank, layer):
    """LyCORIS: (w1_a w1_b) * (w2_a w2_b) * alpha / rank, in the shape of the layer's weight."""
    normal, inputs = torch.Generator().manual_seed(0), 32 * 9 if "conv" in layer else 32
    shapes = {
        "hada_w1_a": (32, rank),
        "hada_w1_b": (rank, inputs),
        "hada_w2_a": (32, rank),
        "hada_w2_b": (rank, inputs),
    }
    parts = {name: torch.randn(*shape, generator=normal) for name, shape in shapes.items()}
    name = f"lora_unet_{layer.replace('.', '_')}"
    state = {f"{name}.{key}": value for key, value in parts.items()} | {f"{name}.alpha": torch.tensor(3.0)}
    adapter = read_adapter(written(tmp_path / "h.safetensors", state))
    one, two = parts["hada_w1_a"] @ parts["hada_w1_b"], parts["hada_w2_a"] @ parts["hada_w2_b"]
    assert torch.allclose(adapter.layers[layer].dense(), one * two * 3 / rank, atol=1e-4)
    assert adapter.inputs[layer] == ((32, 3, 3) if "conv" in layer else (32, 1, 1))
    assert adapter.layers[layer].up.shape[1] <= min(rank**2, 32)


@pytest.mark.parametrize(
    "kind", [("w1", "w2_a", "w2_b"), ("w1_a", "w1_b", "w2"), ("w1_a", "w1_b", "w2_a", "w2_b"), ("w1", "w2")]
)
def test_a_lokr_is_the_kronecker_product(tmp_path, kind):
    """LyCORIS: kron(w1, w2) * alpha / rank of a factorised side; 1 where there is none. Kernels belong to w2."""
    normal, rank, layer = torch.Generator().manual_seed(0), 2, "down_blocks.1.resnets.0.conv2"
    shapes = {
        "w1": (4, 4),
        "w1_a": (4, rank),
        "w1_b": (rank, 4),
        "w2": (8, 8, 3, 3),
        "w2_a": (8, rank),
        "w2_b": (rank, 72),
    }
    parts = {name: torch.randn(*shapes[name], generator=normal) for name in kind}
    name = f"lora_unet_{layer.replace('.', '_')}"
    state = {f"{name}.lokr_{key}": value for key, value in parts.items()} | {f"{name}.alpha": torch.tensor(3.0)}
    first = parts["w1"] if "w1" in parts else parts["w1_a"] @ parts["w1_b"]
    second = parts["w2"] if "w2" in parts else (parts["w2_a"] @ parts["w2_b"]).view(8, 8, 3, 3)
    want = torch.kron(first[:, :, None, None], second) * (1 if kind == ("w1", "w2") else 3 / rank)
    adapter = read_adapter(written(tmp_path / "k.safetensors", state))
    assert torch.allclose(adapter.layers[layer].dense().view(32, 32, 3, 3), want, atol=1e-4)
    again = write_lora(tmp_path / "plain.safetensors", read_lora(tmp_path / "k.safetensors").layers, {})
    assert again is None
    assert torch.allclose(
        read_adapter(tmp_path / "plain.safetensors").layers[layer].dense().view(32, 32, 3, 3), want, atol=1e-4
    )


def test_a_loha_is_blended_with_a_plain_lora_and_drawn_by_diffusers(tiny_sd, adapter_files, tmp_path):
    """Its 1 x 1 convolutions are written as such, which a LoHa's tensors do not tell."""
    state, normal = {}, torch.Generator().manual_seed(3)
    for layer, module in adaptable_modules(base_unet(tiny_sd)).items():
        if layer.endswith(("to_k", "proj_in", "conv_shortcut", "conv1")):
            name, (m, n) = f"lora_unet_{layer.replace('.', '_')}", module.weight.flatten(1).shape
            for i in (1, 2):
                state[f"{name}.hada_w{i}_a"] = 0.3 * torch.randn(m, 2, generator=normal)
                state[f"{name}.hada_w{i}_b"] = torch.randn(2, n, generator=normal) / n**0.25
            state[f"{name}.alpha"] = torch.tensor(1.0)
    file = written(tmp_path / "loha.safetensors", state)
    for names in ("kohya", "diffusers"):
        write_lora(tmp_path / f"{names}.safetensors", read_lora(file).layers, {}, names)
        ours = in_process(tiny_sd, [file], [1.0])
        assert (ours - predict(base_unet(tiny_sd))).abs().max() > 1e-3
        assert torch.allclose(in_diffusers(tiny_sd, [tmp_path / f"{names}.safetensors"], [1.0]), ours, atol=1e-4)
    both = blend([read_adapter(file), read_adapter(adapter_files[1])], [0.6, 0.4])
    assert "down_blocks.0.attentions.0.proj_in" in both
