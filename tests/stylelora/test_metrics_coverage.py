from math import comb

import numpy as np
import pytest
import torch

from stylelora.metrics.coverage import expected_coverage, neighbourhoods
from stylelora.records import InputError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(generated, references, k):
    """The definitions of the two papers, vector by vector."""

    def radius(rows, i):
        return sorted(float((rows[i] - rows[j]).norm()) for j in range(len(rows)) if j != i)[k - 1]

    def holds(rows, i, point):
        return float((rows[i] - point).norm()) <= radius(rows, i)

    n, m = len(generated), len(references)
    return (
        sum(any(holds(references, i, g) for i in range(m)) for g in generated) / n,
        sum(any(holds(generated, i, r) for i in range(n)) for r in references) / m,
        sum(holds(references, i, g) for g in generated for i in range(m)) / (k * n),
        sum(any(holds(references, i, g) for g in generated) for i in range(m)) / m,
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_all_four_are_their_definitions(k):
    generated, references = normal(14, 3, seed=1) * 0.7 + 0.4, normal(11, 3, seed=2)
    got = neighbourhoods(generated, references, k)
    assert tuple(got) == pytest.approx(by_loops(generated, references, k), abs=1e-12)
    assert len(set(got)) == 4  # so that none stands in for another


def test_order_rotation_shift_and_scale_change_nothing_and_exchange_swaps():
    generated, references = normal(30, 4, seed=3) * 0.8, normal(25, 4, seed=4)
    turn = torch.linalg.qr(normal(4, 4, seed=5)).Q
    want = neighbourhoods(generated, references)
    assert neighbourhoods(generated.flip(0), references.roll(4, 0)) == pytest.approx(want, abs=1e-12)
    assert neighbourhoods(7 * generated @ turn + 1, 7 * references @ turn + 1) == pytest.approx(want, abs=1e-12)
    swapped = neighbourhoods(references, generated)
    assert (swapped.precision, swapped.recall) == (want.recall, want.precision)


def test_far_sets_have_nothing_and_the_same_set_everything():
    references = normal(20, 5, seed=6)
    assert tuple(neighbourhoods(references + 100, references)) == (0, 0, 0, 0)
    got = neighbourhoods(references, references)  # each ball holds k neighbours and its centre
    assert tuple(got) == pytest.approx((1, 1, 6 / 5, 1))


def test_copies_lie_on_balls_of_radius_zero():
    """Every reference is there twice; |x|^2 + |y|^2 - 2 xy would put copies of vectors this long apart."""
    references = (normal(20, 16, seed=9) + 1000).repeat(2, 1)
    assert neighbourhoods(references, references, k=1)[:2] == (1, 1)
    assert neighbourhoods(references + 1e-9, references, k=1)[:2] == (0, 0)


@pytest.mark.parametrize("m, n, k, width", [(12, 12, 5, 2), (12, 12, 5, 30), (10, 25, 3, 4), (25, 10, 2, 4)])
def test_equal_distributions_have_the_expected_coverage_in_any_dimension(m, n, k, width):
    values = [
        neighbourhoods(normal(n, width, seed=2 * s), normal(m, width, seed=2 * s + 1).float(), k) for s in range(600)
    ]
    coverage, density = (np.array([getattr(v, name) for v in values]) for name in ("coverage", "density"))
    assert coverage.mean() == pytest.approx(expected_coverage(m, n, k), abs=4 * coverage.std() / 600**0.5)
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / 600**0.5)


def test_expected_coverage_of_a_hundred_pictures():
    """Naeem et al. choose k = 5 so that equal sets have nearly all covered: about 1 - 2^-k for sets of one size."""
    assert expected_coverage(100, 100) == pytest.approx(1 - comb(99, 5) / comb(199, 5), abs=1e-12)
    assert expected_coverage(100, 100) == pytest.approx(0.971, abs=5e-4)
    assert expected_coverage(10**7, 10**7) == pytest.approx(1 - 2**-5, abs=1e-6)
    assert expected_coverage(10, 20, k=1) == pytest.approx(20 / 29)
    values = [neighbourhoods(normal(100, 8, seed=2 * s), normal(100, 8, seed=2 * s + 1)).coverage for s in range(60)]
    assert np.mean(values) == pytest.approx(expected_coverage(100, 100), abs=0.01)


def test_two_outliers_lift_recall_and_leave_coverage():
    """Naeem et al. 2020: why density and coverage are there."""
    references = normal(60, 8, seed=7)
    collapsed = 0.05 * normal(60, 8, seed=8)
    alone = neighbourhoods(collapsed, references)
    collapsed[0], collapsed[1] = 40, -40
    got = neighbourhoods(collapsed, references)
    assert alone.recall < 0.2
    assert got.recall > 0.8
    assert got.coverage <= alone.coverage < 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: neighbourhoods(normal(5, 2), normal(9, 2)),
        lambda: neighbourhoods(normal(9, 2), normal(5, 2)),
        lambda: neighbourhoods(normal(1, 2), normal(9, 2), k=1),
        lambda: neighbourhoods(normal(9, 2), normal(9, 3)),
        lambda: neighbourhoods(normal(9, 2), normal(9, 2), k=0),
        lambda: expected_coverage(5, 5, k=5),
        lambda: expected_coverage(9, 0),
        lambda: expected_coverage(9, 9, k=0),
    ],
)
def test_what_has_no_neighbourhoods_is_refused(call):
    with pytest.raises(InputError):
        call()
