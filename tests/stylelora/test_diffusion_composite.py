"""Blending while sampling, in double precision on a tiny UNet."""

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from stylelora.diffusion.composite import (
    Term,
    anchored_terms,
    composite_terms,
    denoise_blend,
    predict_sum,
    switch_order,
    switch_times,
)
from stylelora.diffusion.sample import denoise
from stylelora.lora.blend import added
from stylelora.lora.factors import Factors
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.router import routed

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
        "texts": [draw(2, 7, width), draw(2, 7, width)],
        "text": draw(2, 7, width),
        "empty": draw(1, 7, width),
    }


def predicted(unet, adapters, inputs, terms, batched=True):
    with torch.no_grad(), routed(unet, adapters) as router:
        return predict_sum(unet, router, inputs["x"], torch.tensor(500), terms, batched).double()


def alone(unet, updates, x, text):
    with torch.no_grad(), added(unet, updates):
        return unet(x, torch.tensor(500), encoder_hidden_states=text.expand(len(x), -1, -1)).sample


def test_weighted_composite_is_the_sum_of_guided_predictions(unet, pair, inputs):
    want = 0
    for share, updates, text in zip((0.6, 0.4), pair, inputs["texts"], strict=True):
        empty, full = (alone(unet, updates, inputs["x"], one) for one in (inputs["empty"], text))
        want = want + share * (empty + GUIDANCE * (full - empty))
    terms = composite_terms((0.6, 0.4), inputs["texts"], inputs["empty"], GUIDANCE)
    for batched in (True, False):
        assert torch.allclose(predicted(unet, pair, inputs, terms, batched), want, atol=1e-5)


def test_batched_and_sequential_are_equal(unet, pair, inputs):
    terms = composite_terms((0.6, 0.4), inputs["texts"], inputs["empty"], GUIDANCE, base_unconditional=True)
    both = [predicted(unet, pair, inputs, terms, batched) for batched in (True, False)]
    assert torch.allclose(*both, atol=1e-5)
    assert len(terms) == 3
    empty = alone(unet, {}, inputs["x"], inputs["empty"])
    full = [alone(unet, updates, inputs["x"], text) for updates, text in zip(pair, inputs["texts"], strict=True)]
    assert torch.allclose(both[0], empty + GUIDANCE * (0.6 * full[0] + 0.4 * full[1] - empty), atol=1e-5)


def test_an_adapter_composed_with_itself_is_itself(unet, pair, inputs):
    text = inputs["texts"][0]
    same = predicted(unet, [pair[0]] * 2, inputs, composite_terms((0.6, 0.4), [text] * 2, inputs["empty"], GUIDANCE))
    single = predicted(unet, [pair[0]], inputs, composite_terms((1.0,), [text], inputs["empty"], GUIDANCE))
    assert torch.allclose(same, single, atol=1e-5)


def test_anchored_is_composite_where_weights_add_up_to_one(unet, pair, inputs):
    texts, text, empty = inputs["texts"], inputs["text"], inputs["empty"]
    assert len(anchored_terms((0.6, 0.4), texts, text, empty, GUIDANCE)) == 4
    terms = composite_terms((0.6, 0.4), texts, empty, GUIDANCE)
    anchored = predicted(unet, pair, inputs, anchored_terms((0.6, 0.4), texts, text, empty, GUIDANCE))
    assert torch.allclose(anchored, predicted(unet, pair, inputs, terms), atol=1e-6)
    half = predicted(unet, pair, inputs, anchored_terms((0.3, 0.2), texts, text, empty, 1.0))
    want = 0.5 * alone(unet, {}, inputs["x"], text)
    for weight, updates, own in zip((0.3, 0.2), pair, texts, strict=True):
        want = want + weight * alone(unet, updates, inputs["x"], own)
    assert torch.allclose(half, want, atol=1e-5)
    nothing = anchored_terms((), (), text, empty, 1.0)
    assert torch.allclose(predicted(unet, [], inputs, nothing), alone(unet, {}, inputs["x"], text), atol=1e-6)


def test_each_region_has_its_adapter(unet, pair, inputs):
    left = torch.zeros(1, 1, 1, inputs["x"].shape[-1])
    left[..., : left.shape[-1] // 2] = 1
    terms = composite_terms((left, 1 - left), inputs["texts"], inputs["empty"], GUIDANCE)
    halves = predicted(unet, pair, inputs, terms)
    for i, mask in enumerate((left, 1 - left)):
        own = composite_terms((1.0,), [inputs["texts"][i]], inputs["empty"], GUIDANCE)
        assert torch.allclose(mask * halves, mask * predicted(unet, [pair[i]], inputs, own), atol=1e-5)


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.5, 0.3, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.97, 0.02, 0.01), (1.0, 0.0)])
def test_switch_keeps_every_prefix_within_one_step_of_its_share(shares):
    order = switch_order(shares, 100)
    for t in range(1, 101):
        for i, share in enumerate(shares):
            assert abs(order[:t].count(i) - t * share) < 1
    assert all(order.count(i) == 0 for i, share in enumerate(shares) if share == 0)


def test_switch_takes_turns():
    assert switch_order((0.6, 0.4), 10) == [0, 1, 0, 1, 0, 0, 1, 0, 1, 0]


def test_switch_comes_nearer_to_composite_with_more_steps(unet, pair, inputs):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    start, text = inputs["x"], inputs["text"]
    gaps = []
    for steps in (10, 20, 40, 80):
        order = switch_order((0.6, 0.4), steps)
        with routed(unet, pair) as router:
            composite = composite_terms((0.6, 0.4), [text] * 2, inputs["empty"], 1.0)
            want = denoise_blend(unet, router, scheduler, start, lambda _, terms=composite: terms, steps)
            got = denoise_blend(unet, router, scheduler, start, lambda i, o=order: [Term(o[i], text, 1.0)], steps)
        gaps.append(float((got - want).norm() / want.norm()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < gaps[0] / 3


def test_one_adapter_sampled_by_terms_is_what_denoise_gives(unet, pair, inputs):
    scheduler = DDIMScheduler(clip_sample=False)
    text, empty = inputs["text"], inputs["empty"]
    with added(unet, pair[0]):
        want = denoise(unet, scheduler, inputs["x"], text, empty, 5, GUIDANCE)
    with routed(unet, pair[:1]) as router:
        terms = composite_terms((1.0,), [text], empty, GUIDANCE)
        got = denoise_blend(unet, router, scheduler, inputs["x"], lambda _: terms, 5)
    assert torch.allclose(got, want, atol=1e-4)


def test_k_lora_times_grow_with_the_share_and_rule_the_layers(unet, pair, inputs):
    times = [switch_times(*pair, (share, 1 - share)) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    for layer in times[0]:
        own = [one[layer] for one in times]
        assert own == sorted(own)
    assert 0 < sum(times[2].values()) / len(times[2]) < 1
    scheduler = DDIMScheduler(clip_sample=False)
    text = inputs["text"]

    def sample(adapters, times):
        with routed(unet, adapters) as router:
            terms = [Term(0, text, 1.0)]
            return denoise_blend(unet, router, scheduler, inputs["x"], lambda _: terms, 4, times=times)

    assert torch.allclose(sample(pair, dict.fromkeys(times[0], 0.0)), sample(pair[1:], None), atol=1e-5)
    assert torch.allclose(sample(pair, dict.fromkeys(times[0], 1.0)), sample(pair[:1], None), atol=1e-5)


def test_the_unet_is_as_before_also_after_an_error(unet, pair, inputs):
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    modules = [id(module) for module in unet.modules()]
    unet.train()
    with pytest.raises(ZeroDivisionError), routed(unet, pair) as router:
        denoise_blend(unet, router, DDIMScheduler(), inputs["x"], lambda step: 1 / step, 3)
    assert unet.training
    unet.eval()
    assert [id(module) for module in unet.modules()] == modules
    assert not any(module._forward_hooks for module in unet.modules())
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
