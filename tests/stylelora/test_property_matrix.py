"""The property matrix of blending, in double precision on a tiny UNet, with the cells where a method is known to fail.

Y: the property holds, to 1e-12 of what the first adapter changes in the latents of a short walk, or in the updates
where a row is about these. A number: it does not hold, and this is about how much of that change the deviation is.
E: the method refuses. A dash: there is no such thing.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from stylelora.base.conditioning import Conditioning
from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.lora.blend import added, blend
from stylelora.lora.compose import METHODS
from stylelora.lora.factors import Factors, truncated
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.mix import BlendOptions
from stylelora.lora.read import Adapter
from tests.tiny_sd import TINY_UNET

# ties and knots_ties keep all entries, dare half of them; truncated is the sum, cut to the sum of the ranks.
MATRIX = """
                          sum truncated ties knots_ties dare tsv_m iso_c np_lora composite anchored switch k_lora peft_linear
weights_of_0_are_the_base Y   Y         Y    Y          Y    Y     Y     Y       Y         Y        Y      Y      Y
one_alone_is_itself       Y   Y         Y    Y          1.0  Y     0.4   Y       Y         Y        Y      Y      Y
half_of_one_is_half_of_it Y   Y         Y    Y          0.6  Y     0.2   Y       Y         0.3      Y      Y      Y
no_order                  Y   Y         Y    Y          Y    Y     Y     Y       Y         Y        Y      1.0    Y
no_order_at_equal_weights Y   Y         Y    Y          Y    Y     Y     Y       Y         Y        0.8    1.0    Y
only_the_update_counts    Y   Y         Y    Y          Y    Y     Y     Y       Y         Y        Y      Y      0.9
ranks_may_differ          Y   Y         Y    Y          Y    Y     Y     Y       Y         Y        Y      0.2    E
homogeneous               Y   Y         Y    Y          Y    Y     Y     Y       0.4       Y        0.6    0.6    Y
twice_the_same_is_itself  Y   Y         Y    Y          0.8  0.6   0.4   0.6     Y         Y        Y      Y      0.8
result_is_a_lora          Y   Y         0.1  Y          0.5  Y     Y     Y       -         -        -      -      Y
"""  # noqa: E501
SAMPLING = tuple(SAMPLING_METHODS)
LAYERS = ("to_q", "to_v", "to_out.0", "conv1", "proj_in")
SCHEDULER = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
GUIDANCE, STEPS = 3.0, 3


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


START, TEXT, EMPTY = normal(1, 4, 8, 8, seed=0), normal(1, 7, 32, seed=1), normal(1, 7, 32, seed=2)


def embed(texts, _updates):
    return Conditioning(torch.cat([TEXT if text else EMPTY for text in texts]))


def small_unet():
    """SD 1.5's layout with two blocks."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "down_block_types": down, "up_block_types": up}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**TINY_UNET | sizes).eval().double()


def random_adapter(unet, name, seed, rank=3):
    modules = {layer: module for layer, module in adaptable_modules(unet).items() if layer.endswith(LAYERS)}
    layers = {}
    for number, (layer, module) in enumerate(modules.items()):
        m, n = module.weight.flatten(1).shape
        up, down = normal(m, rank, seed=1000 * seed + number), normal(rank, n, seed=1000 * seed + 500 + number)
        layers[layer] = Factors(0.3 * up / (rank * n) ** 0.5, down)
    return Adapter(name, layers, {layer: tuple(module.weight.shape[1:]) for layer, module in modules.items()}, "", {})


def changed(adapter, change, name=None):
    return Adapter(name or adapter.name, {k: change(v) for k, v in adapter.layers.items()}, adapter.inputs, "", {})


@torch.no_grad()
def walk(unet, steps=STEPS):
    """Guided DDIM, without any code of the package."""
    SCHEDULER.set_timesteps(steps)
    x = START
    for t in SCHEDULER.timesteps:
        empty, full = unet(torch.cat([x, x]), t, torch.cat([EMPTY, TEXT])).sample.chunk(2)
        x = SCHEDULER.step(empty + GUIDANCE * (full - empty), t, x).prev_sample
    return x


def alone(unet, adapter, weight=1.0, steps=STEPS):
    """Latents of one adapter, its dense updates added to a copy's weights."""
    unet = copy.deepcopy(unet).requires_grad_(False)
    for layer, update in adapter.layers.items():
        parameter = unet.get_submodule(layer).weight
        parameter += weight * (update.up @ update.down).view_as(parameter)
    return walk(unet, steps)


def peft_linear(unet, adapters, weights):
    ranks = [next(iter(adapter.layers.values())).up.shape[1] for adapter in adapters]
    names, peft = [adapter.name for adapter in adapters], copy.deepcopy(unet)
    for adapter, rank in zip(adapters, ranks, strict=True):
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(adapter.layers))
        if adapter is adapters[0]:
            peft = get_peft_model(peft, config, adapter_name=adapter.name)
        else:
            peft.add_adapter(adapter.name, config)
        for layer, update in adapter.layers.items():
            module = peft.base_model.model.get_submodule(layer)
            for held, factor in ((module.lora_A, update.down), (module.lora_B, update.up)):
                held[adapter.name].weight.data = factor.reshape(held[adapter.name].weight.shape).clone()
    peft.add_weighted_adapter(names, list(weights), "merged", combination_type="linear")
    modules = {layer: peft.base_model.model.get_submodule(layer) for layer in adapters[0].layers}
    return {
        layer: Factors(module.lora_B["merged"].weight.data.flatten(1), module.lora_A["merged"].weight.data.flatten(1))
        for layer, module in modules.items()
    }


def merged(unet, method, adapters, weights):
    if method == "peft_linear":
        return peft_linear(unet, adapters, weights)
    options = BlendOptions(density=0.5 if method == "dare" else 1.0)
    updates = blend(adapters, weights, "sum" if method == "truncated" else method, options)
    if method == "truncated":
        updates = {layer: truncated(update, update.up.shape[1]) for layer, update in updates.items()}
    return updates


def made(unet, method, adapters, weights, steps=STEPS):
    """Latents of a blend."""
    if method in SAMPLING:
        return sample_condition(
            unet, SCHEDULER, Blends(adapters), Condition(method, weights, steps, GUIDANCE), START, ["a cat"], embed
        )
    with added(unet, merged(unet, method, adapters, weights)):
        return walk(unet, steps)


def weights_of_0_are_the_base(given, method):
    return made(given.unet, method, [given.a, given.b], (0.0, 0.0)) - given.base


def one_alone_is_itself(given, method):
    return made(given.unet, method, [given.a, given.b], (1.0, 0.0)) - given.whole


def half_of_one_is_half_of_it(given, method):
    return made(given.unet, method, [given.a, given.b], (0.5, 0.0)) - given.half


def no_order(given, method, weights=(0.6, 0.4)):
    forth = made(given.unet, method, [given.a, given.b], weights)
    return forth - made(given.unet, method, [given.b, given.a], weights[::-1])


def no_order_at_equal_weights(given, method):
    return no_order(given, method, (0.5, 0.5))


def only_the_update_counts(given, method):
    """(B, A) -> (B G^-1, G A) is the same update."""
    change = torch.linalg.qr(normal(3, 3, seed=9))[0] * torch.tensor([0.5, 1.0, -2.0])
    other = changed(given.a, lambda update: Factors(update.up @ change.inverse(), change @ update.down))
    plain = made(given.unet, method, [given.a, given.b], (0.6, 0.4))
    return made(given.unet, method, [other, given.b], (0.6, 0.4)) - plain


def ranks_may_differ(given, method):
    """An adapter of rank 3 beside one of rank 5 is the same as padded to rank 5."""
    larger = random_adapter(given.unet, "oil", 3, rank=5)
    pad = torch.nn.functional.pad
    padded = changed(given.a, lambda update: Factors(pad(update.up, (0, 2)), pad(update.down, (0, 0, 0, 2))))
    mixed = made(given.unet, method, [given.a, larger], (0.6, 0.4))
    return mixed - made(given.unet, method, [padded, larger], (0.6, 0.4))


def homogeneous(given, method):
    """Half the weights, half the change: of the updates, or of one prediction, in which a step of DDIM is affine."""
    adapters, weights = [given.a, given.b], ((0.3, 0.2), (0.6, 0.4))
    if method in SAMPLING:
        half, whole = (made(given.unet, method, adapters, some, steps=1) for some in weights)
        return 2 * half - whole - walk(given.unet, steps=1)
    half, whole = (merged(given.unet, method, adapters, some) for some in weights)
    return torch.cat([(2 * half[layer].dense() - whole[layer].dense()).flatten() for layer in whole])


def twice_the_same_is_itself(given, method):
    again = changed(given.a, lambda update: update, "oil")
    return made(given.unet, method, [given.a, again], (0.6, 0.4)) - given.whole


def result_is_a_lora(given, method):
    """What a LoRA of the sum of ranks cannot hold."""
    updates = merged(given.unet, method, [given.a, given.b], (0.6, 0.4))
    return torch.cat([torch.linalg.svdvals(update.dense())[6:] for update in updates.values()])


ROWS = (weights_of_0_are_the_base, one_alone_is_itself, half_of_one_is_half_of_it, no_order, no_order_at_equal_weights,
        only_the_update_counts, ranks_may_differ, homogeneous, twice_the_same_is_itself, result_is_a_lora)  # fmt: skip


def cells():
    head, *rows = (line.split() for line in MATRIX.strip().splitlines())
    functions = {row.__name__: row for row in ROWS}
    return [
        pytest.param(functions[name], method, cell, id=f"{name}-{method}")
        for name, *row in rows
        for method, cell in zip(head, row, strict=True)
        if cell != "-"
    ]


@pytest.fixture(scope="module")
def given():
    unet = small_unet()
    a, b = random_adapter(unet, "ink", 1), random_adapter(unet, "oil", 2)
    base, half, whole = (alone(unet, a, weight) for weight in (0.0, 0.5, 1.0))
    return SimpleNamespace(unet=unet, a=a, b=b, base=base, half=half, whole=whole)


@pytest.mark.parametrize(("row", "method", "cell"), cells())
def test_cell(given, row, method, cell):
    if cell == "E":
        with pytest.raises(ValueError, match="same r value"):
            row(given, method)
        return
    deviation = row(given, method)
    if row is result_is_a_lora or (row is homogeneous and method not in SAMPLING):
        change = torch.cat([update.dense().flatten() for update in given.a.layers.values()])
    elif row is homogeneous:
        change = alone(given.unet, given.a, steps=1) - walk(given.unet, steps=1)
    else:
        change = given.whole - given.base
    got = float(deviation.norm() / change.norm())
    if cell != "Y":
        assert float(cell) / 1.5 < got < 1.5 * float(cell)
    elif method == "peft_linear" or (row is weights_of_0_are_the_base and method in SAMPLING):
        assert got < 1e-6  # PEFT has roots of weights in float32; `denoise`, here of the base, predicts in float32
    else:
        assert got < 1e-12


def test_the_matrix_has_every_method():
    head = MATRIX.split("\n")[1].split()
    assert set(head) - {"truncated", "peft_linear"} == {*METHODS, *SAMPLING_METHODS}
