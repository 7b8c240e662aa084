"""Ranks, scales, starts and dropouts of a LoRA, against PEFT's own layers and kohya's formulas."""

import copy
import math

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from safetensors import safe_open

from stylelora.lora.blend import added
from stylelora.lora.inject import ADAPTER, adapted_modules, adapter_disabled, inject_lora
from stylelora.lora.options import LoraOptions
from stylelora.lora.read import read_adapter
from stylelora.lora.write import trained_layers, write_lora
from stylelora.records import InputError
from tests.tiny_sd import disturb, predict

TARGETS = ["to_q", "to_out.0", "conv1", "conv2"]


@pytest.fixture
def base(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval()


def injected(base, rank=4, alpha=None, dropout=0.0, targets=TARGETS, moved=True, **options):
    unet = copy.deepcopy(base)
    inject_lora(unet, rank, alpha, dropout, targets, seed=0, options=LoraOptions(**options))
    if moved:
        disturb(unet)
    return unet


def shapes(unet):
    """Rank, and the alpha that a file says, by layer."""
    return {name: (layer.rank, layer.alpha) for name, layer in trained_layers(adapted_modules(unet)).items()}


def check_file(tiny_sd, base, unet, path):
    """The file is a LoRA of the base itself, here and in diffusers, under every naming."""
    expected, layers = predict(unet), trained_layers(adapted_modules(unet))
    assert not torch.allclose(expected, predict(base), atol=1e-3)
    for names in ("kohya", "diffusers"):
        file = path / f"{names}.safetensors"
        write_lora(file, layers, {}, names)
        ours = copy.deepcopy(base)
        with added(ours, read_adapter(file).layers):
            assert torch.allclose(predict(ours), expected, atol=1e-5)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
        pipeline.load_lora_weights(file)
        assert torch.allclose(predict(pipeline.unet.eval()), expected, atol=1e-5)


def test_without_alpha_it_is_the_rank_and_otherwise_said(base, caplog):
    assert {*shapes(injected(base, rank=3)).values()} == {(3, 3.0)}
    assert {*shapes(injected(base, rank=3, alpha=3.0)).values()} == {(3, 3.0)}
    assert not caplog.text
    assert {*shapes(injected(base, rank=3, alpha=6.0)).values()} == {(3, 6.0)}
    assert "the UNet is multiplied by 2 (alpha 6, rank 3), so another rank is another strength" in caplog.text


def test_patterns_are_kohyas_conv_dim_and_conv_alpha(tiny_sd, base, tmp_path, caplog):
    unet = injected(
        base, rank=4, rank_pattern={"conv1": 2, "conv2": 3, "resnets.0.conv1": 1}, alpha_pattern={"conv2": 1}
    )
    for name, (rank, alpha) in shapes(unet).items():
        if name.endswith("resnets.0.conv1"):
            expected = 1, 1.0
        elif name.endswith("conv1"):
            expected = 2, 2.0
        else:
            expected = (3, 1.0) if name.endswith("conv2") else (4, 4.0)
        assert (rank, alpha) == expected, name
    assert "0.333333 (alpha 1, rank 3)" in caplog.text
    check_file(tiny_sd, base, unet, tmp_path)
    with safe_open(tmp_path / "kohya.safetensors", "pt") as opened:
        assert opened.metadata()["ss_network_dim"] == "Dynamic"


def test_given_alpha_holds_where_no_pattern_says_otherwise(base):
    unet = injected(base, rank=4, alpha=8.0, rank_pattern={"conv1": 2}, alpha_pattern={"to_q": 5})
    found = shapes(unet)
    assert {found[name] for name in found if name.endswith("conv1")} == {(2, 8.0)}
    assert {found[name] for name in found if name.endswith("to_q")} == {(4, 5.0)}
    assert {found[name] for name in found if name.endswith(("conv2", "to_out.0"))} == {(4, 8.0)}


def test_rslora_divides_by_the_root_of_the_rank_in_every_program(tiny_sd, base, tmp_path):
    unet = injected(base, rank=4, alpha=3.0, use_rslora=True, rank_pattern={"conv1": 9})
    theirs = copy.deepcopy(base)
    pattern = {"rank_pattern": {"conv1": 9}, "use_rslora": True}
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=3, target_modules=TARGETS, **pattern), adapter_name=ADAPTER)
    state = {name: value for name, value in unet.state_dict().items() if ".lora_" in name}
    assert len(state) == sum(".lora_" in name for name in theirs.state_dict())
    theirs.load_state_dict(state, strict=False)
    torch.testing.assert_close(predict(unet), predict(theirs.eval()), atol=1e-5, rtol=0)
    assert {*shapes(unet).values()} == {(4, 3.0 * 2), (9, 3.0 * 3)}
    check_file(tiny_sd, base, unet, tmp_path)


def test_pissa_starts_at_the_base_with_pefts_factors(base):
    linear = ["to_q", "to_out.0"]
    unet = injected(base, rank=4, alpha=2.0, targets=linear, moved=False, init_lora_weights="pissa")
    theirs = copy.deepcopy(base)
    config = LoraConfig(r=4, lora_alpha=2, target_modules=linear, init_lora_weights="pissa")
    theirs.add_adapter(config, adapter_name=ADAPTER)
    for mine, other in zip(adapted_modules(unet).values(), adapted_modules(theirs).values(), strict=True):
        a, b = ([layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight] for layer in (mine, other))
        torch.testing.assert_close(a[1] @ a[0], b[1] @ b[0], atol=1e-5, rtol=0)
        assert a[0].abs().max() > 0.1
        torch.testing.assert_close(a[0].norm(dim=1), a[1].norm(dim=0), atol=1e-5, rtol=0)  # shared evenly, as in PEFT
    assert torch.allclose(predict(unet), predict(base), atol=1e-5)
    for one in (unet, theirs):  # the same step from the same start
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                if ".lora_B." in name:
                    parameter *= 1.3
    assert not torch.allclose(predict(unet), predict(base), atol=1e-2)
    assert torch.allclose(predict(unet), predict(theirs.eval()), atol=1e-4)


def test_pissa_keeps_the_base_and_writes_a_lora_of_it(tiny_sd, base, tmp_path):
    unet = injected(base, rank=3, alpha=6.0, init_lora_weights="pissa")
    with adapter_disabled(unet):
        assert torch.equal(predict(unet), predict(base))
    check_file(tiny_sd, base, unet, tmp_path)
    assert {layer.rank for layer in trained_layers(adapted_modules(unet)).values()} == {6}
    half = tmp_path / "half.safetensors"
    write_lora(half, trained_layers(adapted_modules(unet)), {}, dtype="float16")
    with added(base, read_adapter(half).layers):
        assert torch.allclose(predict(base), predict(unet), atol=2e-3)


def test_pissa_needs_a_rank_that_the_weights_have(base):
    with pytest.raises(InputError, match=r"pissa cannot start at rank 17 in .*, whose weights have rank 16 at most"):
        injected(base, rank=17, init_lora_weights="pissa")


class Kohya(torch.nn.Module):
    """LoRAModule of sd-scripts, whose random numbers are drawn in the same order."""

    def __init__(self, layer, rank_dropout, module_dropout):
        super().__init__()
        self.original = layer.get_base_layer()
        self.down, self.up = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        self.rank, self.scale = layer.r[ADAPTER], layer.scaling[ADAPTER]
        self.rank_dropout, self.module_dropout = rank_dropout, module_dropout

    def forward(self, x):
        if self.module_dropout and torch.rand(()) < self.module_dropout:
            return self.original(x)
        inner, scale = self.down(x), self.scale
        if self.rank_dropout:
            mask = (torch.rand((len(x), self.rank)) > self.rank_dropout).float()
            inner = inner * (mask[:, None] if x.ndim == 3 else mask[:, :, None, None] if x.ndim == 4 else mask)
            scale = self.scale / (1 - self.rank_dropout)
        return self.original(x) + self.up(inner) * scale


@pytest.mark.parametrize(("rank_dropout", "module_dropout"), [(0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_ranks_and_modules_are_dropped_as_by_kohya(base, rank_dropout, module_dropout):
    targets = ["to_q", "conv1", "time_emb_proj"]
    unet = injected(base, alpha=8.0, targets=targets, rank_dropout=rank_dropout, module_dropout=module_dropout)
    kept = predict(injected(base, alpha=8.0, targets=targets))
    assert torch.equal(predict(unet), kept)
    theirs = copy.deepcopy(unet)
    for name, layer in adapted_modules(theirs).items():
        parent, _, last = name.rpartition(".")
        setattr(theirs.get_submodule(parent), last, Kohya(layer, rank_dropout, module_dropout))
    made = []
    for one in (unet.train(), theirs.train()):
        for seed in range(2):
            torch.manual_seed(seed)
            made.append(predict(one))
    assert torch.allclose(made[0], made[2], atol=1e-5) and torch.allclose(made[1], made[3], atol=1e-5)
    assert not torch.allclose(made[0], made[1], atol=1e-3)
    assert not torch.allclose(made[0], kept, atol=1e-3)


def test_dropped_modules_still_have_gradients(base):
    unet = injected(base, module_dropout=0.99).train()
    torch.manual_seed(0)
    unet(torch.ones(1, 4, 8, 8), 3, torch.ones(1, 77, 32)).sample.sum().backward()
    gradients = [parameter.grad for parameter in unet.parameters() if parameter.requires_grad]
    assert all(one is not None for one in gradients)  # else DDP waits for them
    assert sum(bool(one.any()) for one in gradients) < len(gradients) / 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank_pattern": {"conv1": 0}}, "lora.rank_pattern gives conv1 the rank 0; give 1 to 16384"),
        (
            {"alpha_pattern": {"conv1": -1.0}},
            "lora.alpha_pattern gives conv1 the alpha -1.0",
        ),
        ({"alpha_pattern": {"conv1": math.nan}}, "gives conv1 the alpha nan"),
        ({"alpha_pattern": {"conv1": math.inf}}, "gives conv1 the alpha inf"),
        ({"rank_dropout": 1.0}, "lora.rank_dropout is 1.0; give a probability from 0 to below 1"),
        ({"rank_dropout": math.nan}, "lora.rank_dropout is nan"),
        ({"module_dropout": -0.1}, "lora.module_dropout is -0.1"),
    ],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        LoraOptions(**options).check()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank_pattern": {"conv9": 2}}, r"lora.rank_pattern names conv9, but no layer of that name gets a LoRA"),
        ({"alpha_pattern": {"to_k": 2}}, r"lora.alpha_pattern names to_k, but no layer of that name gets a LoRA"),
        ({"use_rslora": True}, "use_rslora divides alpha by the root of the rank, so alpha cannot be the rank"),
        ({"init_lora_weights": "pissa", "rank_dropout": 0.1}, "pissa, dropout would leave out parts of the base"),
        ({"init_lora_weights": "pissa", "dropout": 0.1}, "pissa, dropout would leave out parts of the base"),
    ],
)
def test_contradictions_are_refused(base, options, sentence):
    with pytest.raises(InputError, match=sentence):
        injected(base, **options)


def test_defaults_draw_nothing_and_move_nothing(base):
    unet = injected(base).train()
    before = torch.get_rng_state()
    predict(unet)
    assert torch.equal(torch.get_rng_state(), before), "no dropout"
    assert not any("initial" in name for name in unet.state_dict())
