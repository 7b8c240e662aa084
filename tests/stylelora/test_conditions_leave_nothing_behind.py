"""What holds of whole conditions, in double precision on a tiny UNet: nothing stays behind, equal ways agree."""

from fractions import Fraction

import pytest
import torch
from PIL import Image

from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS, switch_order
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.lora.compose import METHODS
from stylelora.lora.mix import BlendOptions
from tests.stylelora.test_property_matrix import (
    GUIDANCE,
    SCHEDULER,
    START,
    alone,
    embed,
    random_adapter,
    small_unet,
    walk,
)

WEIGHTS = (0.6, 0.4)


@pytest.fixture(scope="module")
def unet():
    return small_unet()


@pytest.fixture(scope="module")
def pair(unet):
    return [random_adapter(unet, "ink", 1), random_adapter(unet, "oil", 2, rank=5)]


def sampled(unet, pair, method, weights=WEIGHTS, steps=3, guidance_scale=GUIDANCE, **options):
    condition = Condition(method, weights, steps, guidance_scale, options=BlendOptions(**options))
    return sample_condition(unet, SCHEDULER, Blends(pair), condition, START, ["a cat"], embed)


def error(got, want):
    return float((got - want).norm() / want.norm())


def everything(unet, pair):
    """All that a blend could leave changed: weights and their objects, modules, modes, hooks, adapters."""
    held = {name: (id(value), value.detach().clone()) for name, value in unet.named_parameters()}
    modules = [(id(module), module.training, "forward" in vars(module)) for module in unet.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()]
    factors = [factor.clone() for one in pair for update in one.layers.values() for factor in (update.up, update.down)]
    return held, unet.state_dict(keep_vars=True).keys(), modules, hooks, factors


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("method", [*METHODS, *SAMPLING_METHODS])
def test_all_is_bit_for_bit_as_before(unet, pair, method, interrupted):
    held, names, modules, hooks, factors = everything(unet.train(), pair)
    calls = []

    def count(module, inputs):
        calls.append(module)
        if interrupted and len(calls) == 2:
            raise ZeroDivisionError  # within the second step, with layers before it done and others still to come

    hook = unet.mid_block.register_forward_pre_hook(count)
    try:
        sampled(unet, pair, method)
    except ZeroDivisionError:
        assert interrupted
    finally:
        hook.remove()
        after = everything(unet, pair)
        unet.eval()
    assert len(calls) == (2 if interrupted else 3)
    assert after[1:4] == (names, modules, hooks)
    assert sum(hooks) == 0
    for name, (identity, value) in after[0].items():
        assert identity == held[name][0]
        assert torch.equal(value, held[name][1])
    assert all(torch.equal(one, other) for one, other in zip(after[4], factors, strict=True))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("composite", {}),
        ("composite", {"base_unconditional": True}),
        ("composite", {"regions": ["left", "bottom"]}),
        ("anchored", {}),
        ("anchored", {"base_unconditional": True}),
        ("switch", {}),
        ("k_lora", {}),
    ],
)
def test_one_forward_or_one_for_each_prediction(unet, pair, method, options):
    weights = (0.5, 0.3)
    together = sampled(unet, pair, method, weights, **options)
    assert error(sampled(unet, pair, method, weights, batched=False, **options), together) < 1e-12


@pytest.mark.parametrize("base_unconditional", [False, True])
def test_anchored_is_composite_at_strength_1_only(unet, pair, base_unconditional):
    options = {"base_unconditional": base_unconditional}
    anchored, composite = (sampled(unet, pair, method, **options) for method in ("anchored", "composite"))
    assert error(anchored, composite) < 1e-12
    anchored, composite = (sampled(unet, pair, method, (0.3, 0.2), **options) for method in ("anchored", "composite"))
    assert error(anchored, composite) > 1e-3


def test_a_region_of_the_whole_picture_is_its_adapter_and_no_region_is_the_base(unet, pair, tmp_path):
    for name, grey in (("all.png", 255), ("none.png", 0)):
        Image.new("L", (16, 16), grey).save(tmp_path / name)
    whole, none = str(tmp_path / "all.png"), str(tmp_path / "none.png")
    assert error(sampled(unet, pair, "composite", regions=[whole, none]), alone(unet, pair[0])) < 1e-12
    assert error(sampled(unet, pair, "composite", regions=[none, whole]), alone(unet, pair[1])) < 1e-12
    assert error(sampled(unet, pair, "composite", regions=[none, none]), walk(unet)) < 1e-12
    both = sampled(unet, pair, "composite", regions=[whole, whole])
    assert error(both, sampled(unet, pair, "composite")) < 1e-12


def test_the_order_of_two_matters_to_switch_where_their_shares_have_an_even_denominator():
    """Debts tie when t pi is a whole number and a half: at 1/2, 3/4 or 7/10, never at 3/5 or 2/3."""
    for share in sorted({Fraction(a, b) for b in range(2, 21) for a in range(1, b)}):
        shares = float(share), float(1 - share)
        forth, back = switch_order(shares, 60), switch_order(shares[::-1], 60)
        assert (forth == [1 - i for i in back]) == (share.denominator % 2 == 1), share


@pytest.mark.slow
def test_switch_goes_to_composite_with_more_steps_and_the_sum_does_not(unet, pair):
    gaps = {"switch": [], "sum": []}
    for steps in (20, 40, 80, 160):
        want = sampled(unet, pair, "composite", steps=steps, guidance_scale=1.0)
        for method, found in gaps.items():
            found.append(error(sampled(unet, pair, method, steps=steps, guidance_scale=1.0), want))
    assert gaps["switch"] == sorted(gaps["switch"], reverse=True)
    assert gaps["switch"][-1] < gaps["switch"][0] / 5
    assert gaps["sum"][-1] > gaps["sum"][0] / 1.5
    assert gaps["switch"][-1] < gaps["sum"][-1]
