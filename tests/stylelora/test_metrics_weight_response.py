import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.weight_response import WeightResponse, weight_response
from stylelora.records import InputError

SHARES = np.arange(6) / 5
SWEEP = np.stack([SHARES, 1 - SHARES], 1)


def test_attainments_equal_to_the_weights_are_a_perfect_response():
    got = weight_response(SWEEP[:, 0], SWEEP[:, 1], SWEEP)
    assert got == WeightResponse(pytest.approx(1), pytest.approx(1), 0, pytest.approx(0, abs=1e-12))


def test_numbers_are_those_of_the_definitions():
    generator = np.random.default_rng(0)
    first, second = generator.uniform(0.1, 1, size=(2, 6))
    got = weight_response(first, second, SWEEP)
    x, y = SWEEP[:, 0] - SWEEP[:, 1], first - second
    assert got.rank_correlation == pytest.approx(stats.spearmanr(x, y).statistic)
    assert got.slope == pytest.approx(stats.linregress(x, y).slope)
    assert got.violations == sum(y[k + 1] < y[k] for k in range(5))
    errors = [abs(a / (a + b) - w) for a, b, w in zip(first, second, SHARES, strict=True)]
    assert got.share_error == pytest.approx(np.mean(errors))
    assert got.violations > 0


def test_order_of_settings_and_scale_of_weights_do_not_matter():
    first, second = np.random.default_rng(1).uniform(0.1, 1, size=(2, 6))
    want = weight_response(first, second, SWEEP)
    mixed = np.random.default_rng(2).permutation(6)
    got = weight_response(first[mixed], second[mixed], SWEEP[mixed])
    assert vars(got) == pytest.approx(vars(want))
    doubled = weight_response(first, second, 2 * SWEEP)
    assert vars(doubled) == pytest.approx({**vars(want), "slope": want.slope / 2})
    swapped = weight_response(second, first, SWEEP[:, ::-1])
    assert vars(swapped) == pytest.approx(vars(want))


def test_a_jump_keeps_ranks_but_not_shares():
    jump = (SHARES > 0.5).astype(float)
    got = weight_response(jump, 1 - jump, SWEEP)
    assert got.violations == 0
    assert got.rank_correlation > 0.8  # monotone: ranks alone cannot tell
    assert got.share_error == pytest.approx(0.2)


def test_a_blend_that_ignores_or_reverses_its_weights():
    flat = weight_response(np.full(6, 0.5), np.full(6, 0.5), SWEEP)
    assert flat == WeightResponse(0.0, pytest.approx(0, abs=1e-12), 0, pytest.approx(0.3))
    back = weight_response(1 - SHARES, SHARES, SWEEP)
    assert (back.rank_correlation, back.slope, back.violations) == (pytest.approx(-1), pytest.approx(-1), 5)


def test_destroying_both_styles_is_no_faithful_share():
    assert weight_response(np.full(6, -0.2), np.full(6, -0.1), SWEEP).share_error == pytest.approx(0.8)
    # below 0 counts as 0: without that, the share would be 2 and the error 1.5
    got = weight_response([0.2, 1.0], [-0.1, 0.0], [[0.5, 0.5], [1, 0]])
    assert got.share_error == pytest.approx(0.25)


def test_equal_differences_are_one_step_whatever_their_last_bits():
    weights = [[0.2, 0.8], [0.1, 0.7], [0.8, 0.2], [0.7, 0.1]]
    assert weights[2][0] - weights[2][1] != weights[3][0] - weights[3][1]
    got = weight_response([0.3, 0.1, 0.9, 0.7], [0.0] * 4, weights)
    assert got.violations == 0  # within a step nothing rises or falls
    twice = [[0.2, 0.8], [0.2, 0.8], [0.8, 0.2]]
    assert weight_response([0.5, 0.7, 0.9], [0.0] * 3, twice).violations == 0  # 0.6 to 0.9; sums would fall from 1.2
    assert weight_response([0.9, 0.7, 0.75], [0.0] * 3, twice).violations == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: weight_response([1.0], [1.0, 2.0], [[1, 0]]),
        lambda: weight_response([1.0, 2.0], [1.0, 2.0], [0.2, 0.8]),
        lambda: weight_response([1.0, float("nan")], [1.0, 2.0], SWEEP[:2]),
        lambda: weight_response([1.0, 2.0], [1.0, 2.0], [[0, 0], [1, 0]]),
        lambda: weight_response([1.0, 2.0], [1.0, 2.0], [[-1, 2], [1, 0]]),
        lambda: weight_response([1.0, 2.0], [1.0, 2.0], [[0.3, 0.3], [0.5, 0.5]]),
    ],
)
def test_what_is_no_sweep_is_refused(call):
    with pytest.raises(InputError):
        call()
