"""Blending while sampling, in double precision on a tiny UNet."""

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from stylelora.base.conditioning import Conditioning
from stylelora.diffusion.blend_while_sampling import (
    Prompt,
    anchored_terms,
    composite_terms,
    second_from,
    switch_order,
    switch_times,
)
from stylelora.diffusion.conditions import Blends, Condition, check_condition, sample_condition
from stylelora.diffusion.prediction_sums import Term, predict_sum, summed
from stylelora.diffusion.sample import denoise, walk
from stylelora.lora.blend import added
from stylelora.lora.factors import Factors
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.read import Adapter
from stylelora.lora.router import routed
from stylelora.records import InputError

LAYERS = ("to_q", "to_v", "to_out.0", "conv1", "proj_in")
GUIDANCE = 3.0


@pytest.fixture(scope="module")
def unet(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval().double()


def adapter(unet, seed, rank=3):
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for layer, module in adaptable_modules(unet).items():
        if layer.endswith(LAYERS):
            m, n = module.weight.flatten(1).shape
            up, down = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((m, rank), (rank, n)))
            updates[layer] = Factors(up / (rank * n) ** 0.5, down)
    return updates


@pytest.fixture(scope="module")
def pair(unet):
    return [adapter(unet, 1), adapter(unet, 2, rank=5)]


@pytest.fixture(scope="module")
def inputs(unet):
    generator = torch.Generator().manual_seed(0)
    side, width = unet.config.sample_size, unet.config.cross_attention_dim

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": draw(2, unet.config.in_channels, side, side),
        "prompts": [prompt(draw, width) for _ in range(2)],  # each by a text encoder of its own
        "base": prompt(draw, width),
    }


def prompt(draw, width):
    return Prompt(Conditioning(draw(2, 7, width)), Conditioning(draw(1, 7, width)))


def predicted(unet, adapters, inputs, terms, batched=True):
    with torch.no_grad(), routed(unet, adapters) as router:
        return predict_sum(unet, router, inputs["x"], torch.tensor(500), terms, batched).double()


def alone(unet, updates, x, text):
    with torch.no_grad(), added(unet, updates):
        return unet(x, torch.tensor(500), encoder_hidden_states=text.text.expand(len(x), -1, -1)).sample


def test_weighted_composite_is_the_sum_of_guided_predictions(unet, pair, inputs):
    want = 0
    for share, updates, own in zip((0.6, 0.4), pair, inputs["prompts"], strict=True):
        empty, full = (alone(unet, updates, inputs["x"], one) for one in (own.empty, own.text))
        want = want + share * (empty + GUIDANCE * (full - empty))
    terms = composite_terms((0.6, 0.4), inputs["prompts"], inputs["base"], GUIDANCE)
    for batched in (True, False):
        assert torch.allclose(predicted(unet, pair, inputs, terms, batched), want, atol=1e-10)


def test_batched_and_sequential_are_equal(unet, pair, inputs):
    terms = composite_terms((0.6, 0.4), inputs["prompts"], inputs["base"], GUIDANCE, base_unconditional=True)
    both = [predicted(unet, pair, inputs, terms, batched) for batched in (True, False)]
    assert torch.allclose(*both, atol=1e-10)
    assert len(terms) == 3
    empty = alone(unet, {}, inputs["x"], inputs["base"].empty)
    full = [alone(unet, updates, inputs["x"], own.text) for updates, own in zip(pair, inputs["prompts"], strict=True)]
    assert torch.allclose(both[0], empty + GUIDANCE * (0.6 * full[0] + 0.4 * full[1] - empty), atol=1e-10)


def test_an_adapter_composed_with_itself_is_itself(unet, pair, inputs):
    own, base = inputs["prompts"][0], inputs["base"]
    same = predicted(unet, [pair[0]] * 2, inputs, composite_terms((0.6, 0.4), [own] * 2, base, GUIDANCE))
    single = predicted(unet, [pair[0]], inputs, composite_terms((1.0,), [own], base, GUIDANCE))
    assert torch.allclose(same, single, atol=1e-10)


def test_anchored_is_composite_where_weights_add_up_to_one(unet, pair, inputs):
    prompts, base = inputs["prompts"], inputs["base"]
    assert len(anchored_terms((0.6, 0.4), prompts, base, GUIDANCE)) == 4
    terms = composite_terms((0.6, 0.4), prompts, base, GUIDANCE)
    anchored = predicted(unet, pair, inputs, anchored_terms((0.6, 0.4), prompts, base, GUIDANCE))
    assert torch.allclose(anchored, predicted(unet, pair, inputs, terms), atol=1e-10)
    half = predicted(unet, pair, inputs, anchored_terms((0.3, 0.2), prompts, base, 1.0))
    want = 0.5 * alone(unet, {}, inputs["x"], base.text)
    for weight, updates, own in zip((0.3, 0.2), pair, prompts, strict=True):
        want = want + weight * alone(unet, updates, inputs["x"], own.text)
    assert torch.allclose(half, want, atol=1e-10)
    guided = predicted(unet, pair, inputs, anchored_terms((0.3, 0.2), prompts, base, GUIDANCE))
    unconditional = 0.5 * alone(unet, {}, inputs["x"], base.empty)
    for weight, updates, own in zip((0.3, 0.2), pair, prompts, strict=True):
        unconditional = unconditional + weight * alone(unet, updates, inputs["x"], own.empty)
    assert torch.allclose(guided, unconditional + GUIDANCE * (want - unconditional), atol=1e-10)
    nothing = anchored_terms((), (), base, 1.0)
    assert torch.allclose(predicted(unet, [], inputs, nothing), alone(unet, {}, inputs["x"], base.text), atol=1e-10)


def test_each_region_has_its_adapter(unet, pair, inputs):
    left = torch.zeros(1, 1, 1, inputs["x"].shape[-1])
    left[..., : left.shape[-1] // 2] = 1
    terms = composite_terms((left, 1 - left), inputs["prompts"], inputs["base"], GUIDANCE)
    halves = predicted(unet, pair, inputs, terms)
    for i, mask in enumerate((left, 1 - left)):
        own = composite_terms((1.0,), [inputs["prompts"][i]], inputs["base"], GUIDANCE)
        assert torch.allclose(mask * halves, mask * predicted(unet, [pair[i]], inputs, own), atol=1e-10)


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.97, 0.02, 0.01), (1.0, 0.0)])
def test_switch_keeps_every_prefix_within_one_step_of_its_share(shares):
    order = switch_order(shares, 100)
    for t in range(1, 101):
        for i, share in enumerate(shares):
            assert abs(order[:t].count(i) - t * share) < 1
    assert all(order.count(i) == 0 for i, share in enumerate(shares) if share == 0)


def test_switch_takes_turns():
    assert switch_order((0.6, 0.4), 10) == [0, 1, 0, 1, 0, 0, 1, 0, 1, 0]


@pytest.mark.slow
def test_switch_comes_nearer_to_composite_with_more_steps(unet, pair, inputs):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    start, base = inputs["x"], inputs["base"]
    gaps = []
    for steps in (10, 20, 40, 80):
        order = switch_order((0.6, 0.4), steps)
        with routed(unet, pair) as router:
            composite = composite_terms((0.6, 0.4), [base] * 2, base, 1.0)
            want = walk(unet, scheduler, start, steps, summed(unet, router, lambda _, terms=composite: terms))
            got = walk(
                unet, scheduler, start, steps, summed(unet, router, lambda i, o=order: [Term(o[i], base.text, 1.0)])
            )
        gaps.append(float((got - want).norm() / want.norm()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < gaps[0] / 3


def test_one_adapter_sampled_by_terms_is_what_denoise_gives(unet, pair, inputs):
    scheduler = DDIMScheduler(clip_sample=False)
    own = inputs["prompts"][0]
    with added(unet, pair[0]):
        want = denoise(unet, scheduler, inputs["x"], own.text, own.empty, 5, GUIDANCE)
    with routed(unet, pair[:1]) as router:
        terms = composite_terms((1.0,), [own], inputs["base"], GUIDANCE)
        got = walk(unet, scheduler, inputs["x"], 5, summed(unet, router, lambda _: terms))
    assert torch.allclose(got, want, atol=1e-4)


def test_k_lora_times_grow_with_the_share_and_rule_the_layers(unet, pair, inputs):
    times = [switch_times(*pair, (share, 1 - share)) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    for layer in times[0]:
        own = [one[layer] for one in times]
        assert own == sorted(own)
    assert 0 < sum(times[2].values()) / len(times[2]) < 1
    scheduler = DDIMScheduler(clip_sample=False)
    text = inputs["base"].text

    def sample(adapters, times):
        with routed(unet, adapters) as router:
            terms = lambda call: [Term(second_from(times, call / 4) if times else 0, text, 1.0)]  # noqa: E731
            return walk(unet, scheduler, inputs["x"], 4, summed(unet, router, terms))

    assert torch.allclose(sample(pair, dict.fromkeys(times[0], 0.0)), sample(pair[1:], None), atol=1e-10)
    assert torch.allclose(sample(pair, dict.fromkeys(times[0], 1.0)), sample(pair[:1], None), atol=1e-10)


def test_the_unet_is_as_before_also_after_an_error(unet, pair, inputs):
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    modules = [id(module) for module in unet.modules()]
    unet.train()
    text, calls = inputs["base"].text, []

    def raising(module, args, output):
        calls.append(router.parts)
        raise ZeroDivisionError  # in the middle of a forward, with the adapters active

    hook = unet.conv_out.register_forward_hook(raising)
    with pytest.raises(ZeroDivisionError), routed(unet, pair) as router:
        walk(unet, DDIMScheduler(), inputs["x"], 3, summed(unet, router, lambda _: [Term(0, text, 1.0)]))
    hook.remove()
    assert calls == [[0]]
    assert unet.training
    unet.eval()
    assert [id(module) for module in unet.modules()] == modules
    assert not any(module._forward_hooks for module in unet.modules())
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_k_lora_keeps_layers_that_one_adapter_alone_has_and_survives_empty_ones(pair):
    first, second = ({name: update.scaled(1.0) for name, update in one.items()} for one in pair)
    names = list(first)
    del first[names[0]], second[names[1]]
    times = switch_times(first, second, (0.5, 0.5))
    assert times[names[0]] == 0.0
    assert names[1] not in times
    before = switch_times(*pair, (0.5, 0.5))
    second[names[2]] = second[names[2]].scaled(0.0)
    after = switch_times(pair[0], second, (0.5, 0.5))
    assert sum(after.values()) > 0.5 * sum(before.values())


def condition_latents(unet, pair, inputs, method, weights):
    modules = adaptable_modules(unet)
    inputs_of = {layer: tuple(module.weight.shape[1:]) for layer, module in modules.items()}
    adapters = [Adapter(name, one, inputs_of, "", {}) for name, one in zip("ab", pair, strict=True)]
    condition = Condition(method, weights, 3, GUIDANCE)
    scheduler = DDIMScheduler(clip_sample=False)
    embed = lambda texts, _updates: Conditioning(inputs["base"].text.text[:1]).expand(len(texts))  # noqa: E731
    return sample_condition(unet, scheduler, Blends(adapters), condition, inputs["x"], ["a cat", "a dog"], embed)


@pytest.mark.parametrize("method", ["sum", "composite", "switch", "k_lora"])
def test_half_of_one_adapter_is_the_same_by_every_method_that_scales_it(unet, pair, inputs, method):
    want = condition_latents(unet, pair, inputs, "sum", (0.5, 0.0))
    assert torch.allclose(condition_latents(unet, pair, inputs, method, (0.5, 0.0)), want, atol=1e-6)


def test_anchored_takes_half_of_one_adapters_prediction(unet, pair, inputs):
    half, near, whole = (
        condition_latents(unet, pair, inputs, "anchored", (w, other)) for w, other in ((0.5, 0), (0.5, 1e-8), (1, 0))
    )
    assert torch.allclose(half, near, atol=1e-4)
    assert not torch.allclose(half, whole, atol=1e-2)


def test_composite_is_not_homogeneous_and_switch_depends_on_the_order_at_ties(unet, pair, inputs):
    """Two rows of the property matrix where a method is expected to fail."""
    one, two = (condition_latents(unet, pair, inputs, "composite", (w, w)) for w in (0.25, 0.5))
    base = condition_latents(unet, pair, inputs, "sum", (0.0, 0.0))
    assert not torch.allclose(two - base, 2 * (one - base), rtol=1e-3)
    assert switch_order((0.5, 0.5), 3) == [0, 1, 0]


@pytest.mark.parametrize(("method", "said"), [("linear", "no method is called"), ("sum", "steps is 0")])
def test_what_cannot_be_sampled_is_refused(pair, method, said):
    with pytest.raises(InputError, match=said):
        check_condition(
            Condition(method, (1.0,), 0 if method == "sum" else 3, 1.0), [Adapter("a", pair[0], {}, "", {})]
        )
