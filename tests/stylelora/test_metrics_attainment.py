import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylelora.metrics.attainment import attainment, calibrate
from stylelora.metrics.both import both_intervals, both_rate, both_scores, coin_flip
from stylelora.metrics.statistics import mean_interval, ratio_interval, share_interval
from stylelora.metrics.style import style_similarity
from stylelora.records import InputError

PROMPTS = np.repeat(np.arange(30), 4)


@pytest.fixture(scope="module")
def conditions():
    """Similarity to styles A and B, (2, 120) each, of pictures of the base, either adapter alone, and a true blend."""
    generator = torch.Generator().manual_seed(0)
    plain, a, b = F.normalize(torch.randn(3, 32, generator=generator), dim=1)
    content = 0.08 * torch.randn(
        120, 32, generator=generator
    )  # the same in every condition: prompts and seeds are paired
    centres = {"base": plain, "A": plain + a, "B": plain + b, "blend": plain + 0.7 * (a + b)}
    held_out = [F.normalize(plain + style + 0.1 * torch.randn(20, 32, generator=generator), dim=1) for style in (a, b)]
    vectors = {name: F.normalize(centre + content, dim=1) for name, centre in centres.items()}
    return {
        name: torch.stack([style_similarity(rows, references) for references in held_out]).double().numpy()
        for name, rows in vectors.items()
    }


@pytest.fixture(scope="module")
def scales(conditions):
    return [calibrate(conditions["base"][k], conditions["AB"[k]][k], PROMPTS) for k in (0, 1)]


def placed(rows, scales):
    return [attainment(row, scale) for row, scale in zip(rows, scales, strict=True)]


def test_the_base_is_0_and_the_single_adapter_1_on_average(conditions, scales):
    for k in (0, 1):
        assert attainment(conditions["base"][k], scales[k]).mean() == pytest.approx(0, abs=1e-12)
        assert attainment(conditions["AB"[k]][k], scales[k]).mean() == pytest.approx(1, abs=1e-12)
        assert scales[k].single == pytest.approx(conditions["AB"[k]][k].mean())
        halfway = (scales[k].base + scales[k].single) / 2
        assert attainment([halfway], scales[k]) == pytest.approx([0.5])
    assert scales[0].span == mean_interval(conditions["A"][0] - conditions["base"][0], PROMPTS)


def test_mean_attainment_is_the_ratio_that_carries_the_scales_error(conditions, scales):
    want = ratio_interval(
        conditions["blend"][0] - conditions["base"][0], conditions["A"][0] - conditions["base"][0], PROMPTS
    )
    assert attainment(conditions["blend"][0], scales[0]).mean() == pytest.approx(want.value)


def test_a_coin_between_styles_has_the_mean_attainments_of_a_blend_and_not_its_both_score(conditions, scales):
    blend, on_a, on_b = (placed(conditions[name], scales) for name in ("blend", "A", "B"))
    heads = np.arange(120) % 2 == 0
    coin = [np.where(heads, one, other) for one, other in zip(on_a, on_b, strict=True)]
    # the blend is brought to the coin's mean attainments, so that nothing but the minimum can tell them apart
    blend = [row - row.mean() + other.mean() for row, other in zip(blend, coin, strict=True)]
    assert np.minimum(blend[0].mean(), blend[1].mean()) == pytest.approx(np.minimum(coin[0].mean(), coin[1].mean()))
    difference = mean_interval(both_scores(*blend) - both_scores(*coin), PROMPTS)
    assert difference.ci_low > 0.1
    assert np.array_equal(both_scores(*blend), [min(pair) for pair in zip(*blend, strict=True)])


def test_coin_flip_is_what_many_coins_give(conditions, scales):
    on_a, on_b = (both_scores(*placed(conditions[name], scales)) for name in "AB")
    generator = np.random.default_rng(1)
    for share in (0.5, 0.8):
        thrown = np.mean([np.where(generator.random(120) < share, on_a, on_b).mean() for _ in range(4000)])
        assert coin_flip(on_a, on_b, share).mean() == pytest.approx(thrown, abs=2e-3)
    assert np.array_equal(coin_flip(on_a, on_b), (on_a + on_b) / 2)
    assert np.array_equal(coin_flip(on_a, on_b, 1), on_a)
    assert np.array_equal(coin_flip(on_a, on_b, 0), on_b)


def test_both_rate_counts_pictures_beyond_what_the_other_style_alone_reaches(conditions, scales):
    blend, on_a, on_b = (placed(conditions[name], scales) for name in ("blend", "A", "B"))
    others = on_b[0], on_a[1]
    got = both_rate(*blend, *others, PROMPTS)
    lines = [np.sort(row) for row in others]
    lines = [row[113] + 0.05 * (row[114] - row[113]) for row in lines]  # 0.95 * 119 = 113.05
    want = np.mean([a > lines[0] and b > lines[1] for a, b in zip(*blend, strict=True)])
    assert got.value == pytest.approx(want)
    assert got.value > 0.7
    assert both_rate(*on_a, *others, PROMPTS).value <= 0.05 + 1e-9  # by construction: 5 % pass B's line
    assert both_rate(*on_b, *others, PROMPTS).value <= 0.05 + 1e-9
    assert both_rate([2.0, 2.0], [0.0, 2.0], [1.0], [1.0], [0, 1]).value == 0.5  # both, not either


def test_both_rate_has_one_line_for_each_style_to_exceed_and_prompts_as_units(conditions, scales):
    assert both_rate([2.0], [4.0], [1.0], [3.0], ["a"]).value == 1
    assert both_rate([4.0], [2.0], [1.0], [3.0], ["a"]).value == 0  # the lines belong to their styles
    assert both_rate([2.0], [4.0], [3.0], [1.0], ["a"]).value == 0
    assert both_rate([1.0], [4.0], [1.0], [3.0], ["a"]).value == 0  # to reach a line is not to exceed it
    assert both_rate([2.0], [3.0], [1.0], [3.0], ["a"]).value == 0
    blend, on_a, on_b = (placed(conditions[name], scales) for name in ("blend", "A", "B"))
    got = both_rate(*blend, on_b[0], on_a[1], PROMPTS, quantile=0.5)
    both = (blend[0] > np.median(on_b[0])) & (blend[1] > np.median(on_a[1]))
    assert got == share_interval(both, PROMPTS)
    assert got.n == 30


def test_order_and_scale_of_similarities_do_not_matter(conditions, scales):
    mixed = np.random.default_rng(2).permutation(120)
    again = calibrate(conditions["base"][0][mixed], conditions["A"][0][mixed], PROMPTS[mixed])
    assert (again.base, again.span.value) == pytest.approx((scales[0].base, scales[0].span.value))
    assert attainment(conditions["blend"][0][mixed], again) == pytest.approx(
        attainment(conditions["blend"][0], scales[0])[mixed]
    )
    stretched = calibrate(3 * conditions["base"][0] - 1, 3 * conditions["A"][0] - 1, PROMPTS)
    assert attainment(3 * conditions["blend"][0] - 1, stretched) == pytest.approx(
        attainment(conditions["blend"][0], scales[0])
    )


def test_a_style_that_its_adapter_does_not_surely_raise_is_not_measurable():
    generator = np.random.default_rng(3)
    base = generator.normal(size=120)
    by_prompt = generator.normal(size=30)[PROMPTS]  # seeds of a prompt agree: 30 units, not 120
    by_prompt = (by_prompt - by_prompt.mean()) / by_prompt.std()
    doubtful = calibrate(base, base + by_prompt + 0.3, PROMPTS)
    assert doubtful.span.ci_low < 0 < doubtful.span.ci_high
    assert mean_interval(by_prompt + 0.3).ci_low > 0  # pictures taken as independent would let it pass
    for scale in (doubtful, calibrate(base, base - 1, PROMPTS), calibrate([0.0, 0.0], [1.0, 1.0], ["a", "a"])):
        assert not scale.measurable
        with pytest.raises(InputError, match="not clearly above 0"):
            attainment(base, scale)
    assert calibrate(base, base + by_prompt + 0.7, PROMPTS).measurable


@pytest.mark.parametrize(
    "call",
    [
        lambda: calibrate([1.0, 2.0], [1.0], ["a", "b"]),
        lambda: calibrate([1.0, 2.0], [1.0, float("nan")], ["a", "b"]),
        lambda: both_scores([], []),
        lambda: both_scores([[1.0]], [[1.0]]),
        lambda: both_scores([1.0, float("nan")], [1.0, 2.0]),
        lambda: attainment([float("inf")], calibrate([0.0, 0.1], [1.0, 1.2], ["a", "b"])),
        lambda: coin_flip([1.0, 2.0], [1.0]),
        lambda: coin_flip([1.0], [1.0], 50),
        lambda: both_rate([1.0], [1.0], [], [1.0], ["a"]),
        lambda: both_rate([1.0], [1.0], [1.0], [1.0], ["a"], quantile=95),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_both_intervals_make_the_scales_anew_in_every_resample():
    draw = np.random.default_rng(0)
    prompts = [f"p{i // 2}" for i in range(60)]
    common = np.repeat(draw.normal(0, 0.1, (30, 2)), 2, 0)
    base, first, second, blend = (
        common + np.array(level) + draw.normal(0, 0.05, (60, 2)) for level in ((0, 0), (1, 0), (0, 0.3), (0.7, 0.2))
    )
    found = both_intervals(blend, (first, second), base, prompts, 0.7)
    scales = [calibrate(base[:, i], one[:, i], prompts) for i, one in enumerate((first, second))]

    def both(rows):
        return both_scores(*(attainment(rows[:, i], scale) for i, scale in enumerate(scales)))

    coin = coin_flip(both(first), both(second), 0.7)
    assert found["blend"].value == pytest.approx(both(blend).mean())
    assert found["base"].value == pytest.approx(both(base).mean())
    assert found["coin_flip"].value == pytest.approx(coin.mean())
    assert found["above_coin_flip"].value == pytest.approx((both(blend) - coin).mean())
    # by hand: resample prompts, make both scales, take the minimum
    values = []
    for picks in np.random.default_rng(1).integers(0, 30, (1500, 30)):
        rows = np.concatenate([[2 * i, 2 * i + 1] for i in picks])
        low = base[rows].mean(0)
        high = np.array([first[rows, 0].mean(), second[rows, 1].mean()])
        values.append(((blend[rows] - low) / (high - low)).min(1).mean())
    ends = found["blend"].ci_low, found["blend"].ci_high
    assert ends == pytest.approx(np.quantile(values, [0.02, 0.98]), abs=0.03)
    flat = both_intervals(blend, (first, base), base, prompts, 0.7)  # an adapter that does nothing has no scale
    assert flat["blend"].ci_low == -np.inf
    assert flat["blend"].ci_high == np.inf
