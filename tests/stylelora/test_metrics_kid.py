import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stylelora.metrics.kid import KID, as_vectors, kid, kid_floor, kid_interval
from stylelora.records import InputError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(x, y, same=lambda i, j: i == j):
    """The definition, pair by pair; `same` tells which pairs within x are left out."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if not same(i, j)]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    return np.mean(xx) + np.mean(yy) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_kid_is_its_definition_for_sets_of_different_sizes():
    x, y = normal(9, 5, seed=1) + 0.3, normal(6, 5, seed=2)
    assert kid(x, y) == pytest.approx(by_loops(x, y), abs=1e-12)
    assert kid(x.float(), y.float()) == pytest.approx(by_loops(x, y), abs=1e-5)


def test_kid_is_that_of_torchmetrics_with_one_subset_of_everything():
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = normal(40, 12, seed=3) * 1.2, normal(40, 12, seed=4) + 0.2
    other = KernelInceptionDistance(feature=nn.Identity(), subsets=1, subset_size=40)
    other.update(x.float(), real=False)
    other.update(y.float(), real=True)
    assert kid(x, y) == pytest.approx(float(other.compute()[0]), abs=1e-5)


def test_equal_distributions_have_mean_zero_and_half_of_the_values_below():
    values = [kid(normal(50, 8, seed=2 * s), normal(50, 8, seed=2 * s + 1)) for s in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    assert 0.35 < np.mean(np.array(values) < 0) < 0.75


def test_order_rotation_and_exchange_of_the_sets_change_nothing_but_scale_does():
    x, y = normal(20, 6, seed=5) + 0.5, normal(15, 6, seed=6)
    turn = torch.linalg.qr(normal(6, 6, seed=7)).Q
    want = kid(x, y)
    assert kid(x.flip(0), y.roll(3, 0)) == pytest.approx(want, abs=1e-10)
    assert kid(x @ turn, y @ turn) == pytest.approx(want, abs=1e-10)
    assert kid(y, x) == pytest.approx(want, abs=1e-10)
    assert kid(3 * x, 3 * y) > 2 * want


def test_collapse_to_the_mean_shows_in_unit_vectors_only_when_they_are_enlarged():
    """Two opposite points and a sphere have one mean; a.b / D of unit vectors leaves the kernel's line alone."""
    width = 256
    plain, enlarged, noise = [], [], []
    for s in range(20):
        x, y = (F.normalize(normal(100, width, seed=3 * s + i), dim=1) for i in range(2))
        point = F.normalize(normal(1, width, seed=3 * s + 2), dim=1)
        two = torch.cat([point.repeat(50, 1), -point.repeat(50, 1)])
        plain.append(kid(two, y))
        enlarged.append(kid(two * width**0.5, y * width**0.5))
        noise.append((kid(x, y), kid(x * width**0.5, y * width**0.5)))
    noise = np.std(noise, axis=0)
    assert abs(np.mean(plain)) < 5 * noise[0]
    assert np.mean(enlarged) > 100 * noise[1]


def test_the_interval_holds_the_estimate_where_the_naive_bootstrap_lies_above_it():
    x, y = normal(100, 64, seed=8), normal(100, 64, seed=9)
    got = kid_interval(x, y, resamples=2000)
    assert got.value == pytest.approx(kid(x, y), abs=1e-12)
    assert got.n == 100
    assert KID.of(got).higher_is_better is False
    assert got.ci_low < got.value < got.ci_high
    generator = np.random.default_rng(0)
    naive = [kid(x[generator.integers(100, size=100)], y[generator.integers(100, size=100)]) for _ in range(200)]
    assert np.quantile(naive, 0.025) > got.ci_high > got.value


def test_the_interval_is_that_of_a_loop_over_prompts_without_pairs_of_one_prompt():
    groups = np.repeat(np.arange(8), [1, 2, 3, 4, 1, 2, 3, 4])
    x, y = normal(8, 4, seed=10)[groups] + 0.5 * normal(20, 4, seed=11) + 1, normal(12, 4, seed=12) + 1
    got = kid_interval(x, y, groups=groups.tolist(), resamples=4000, level=0.8)
    assert got.value == pytest.approx(by_loops(x, y, lambda i, j: groups[i] == groups[j]), abs=1e-12)
    assert got.n == 8
    generator = np.random.default_rng(1)
    values = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == pick) for pick in generator.integers(8, size=8)])
        columns = generator.integers(12, size=12)
        k = ((torch.cat([x[rows], y[columns]]) @ torch.cat([x[rows], y[columns]]).T) / 4 + 1).pow(3).numpy()
        n = len(rows)
        other_x = groups[rows][:, None] != groups[rows]
        other_y = columns[:, None] != columns
        values.append(k[:n, :n][other_x].mean() + k[n:, n:][other_y].mean() - 2 * k[:n, n:].mean())
    low, high = np.quantile(values, [0.1, 0.9])
    assert got.ci_low == pytest.approx(low, abs=0.06 * (high - low))
    assert got.ci_high == pytest.approx(high, abs=0.06 * (high - low))


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_interval_by_prompt_covers_the_truth_and_that_by_picture_does_not(shift):
    """Seeds of one prompt agree. Truth of the shift: pairs of independent pictures in closed form."""
    width, rounds = 16, 100
    groups = np.repeat(np.arange(25), 4)
    # E k = E (s + 1)^3 with s = a.b / D: normal parts have odd moments 0, E s^2 = (1 + shifts) / D
    moments = {}
    for name, (a, b) in {"xx": (shift, shift), "yy": (0, 0), "xy": (shift, 0)}.items():
        mean, square = a * b, (1 + a**2 + b**2) / width + (a * b) ** 2
        cube = (a * b) ** 3 + 3 * a * b * (1 + a**2 + b**2) / width + 6 * a * b / width**2
        moments[name] = 1 + 3 * mean + 3 * square + cube
    truth = moments["xx"] + moments["yy"] - 2 * moments["xy"]
    covered = {"by prompt": 0, "by picture": 0}
    values = []
    for s in range(rounds):
        x = (normal(25, width, seed=3 * s)[groups] + normal(100, width, seed=3 * s + 1)) / 2**0.5 + shift
        y = normal(100, width, seed=3 * s + 2)
        for name, unit in {"by prompt": groups.tolist(), "by picture": None}.items():
            got = kid_interval(x, y, groups=unit, resamples=300, seed=s)
            covered[name] += got.ci_low <= truth <= got.ci_high
            values += [got.value] if unit else []
    assert abs(np.mean(values) - truth) < 3 * np.std(values) / rounds**0.5
    assert covered["by prompt"] >= 0.92 * rounds
    assert covered["by picture"] < 0.88 * rounds


def test_groups_of_any_kind_mean_the_same_and_nothing_global_is_drawn():
    x, y = normal(12, 3, seed=13), normal(10, 3, seed=14)
    numbers = torch.arange(12) // 3
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    want = kid_interval(x, y, groups=numbers.tolist(), resamples=100)
    assert want.n == 4
    assert kid_interval(x, y, groups=numbers, resamples=100) == want
    assert kid_interval(x, y, groups=[f"prompt {int(i)}" for i in numbers], resamples=100) == want
    assert kid_interval(x, y, groups=numbers, resamples=100, seed=1) != want
    assert (np.random.get_state()[1] == state).all()


def test_a_thousand_resamples_of_a_hundred_pictures_take_less_than_two_seconds():
    start = time.perf_counter()
    kid_interval(normal(100, 2048), normal(100, 2048, seed=1), resamples=1000)
    assert time.perf_counter() - start < 2


def test_the_floor_is_the_kid_of_halves_around_zero():
    references = normal(60, 16, seed=15)
    got = kid_floor(references, splits=3000)
    generator = np.random.default_rng(7)
    values = []
    for _ in range(1000):
        order = generator.permutation(60)
        values.append(kid(references[order[:30]], references[order[30:]]))
    assert got.n == 30
    assert abs(got.value) < 3 * np.std(values) / 3000**0.5
    assert got.ci_low == pytest.approx(np.quantile(values, 0.025), rel=0.15)
    assert got.ci_high == pytest.approx(np.quantile(values, 0.975), rel=0.15)
    assert kid_floor(references, splits=3000) == got
    shifted = normal(30, 16, seed=16) + 1
    assert kid(shifted, references) > got.ci_high


def test_the_mean_over_every_split_is_zero_and_odd_sets_split_too():
    from itertools import combinations

    references = normal(7, 3, seed=17)
    every = [
        kid(references[list(first)], references[[i for i in range(7) if i not in first]])
        for first in combinations(range(7), 3)
    ]
    assert np.mean(every) == pytest.approx(0, abs=1e-12)
    assert np.std(every) > 0.1
    got = kid_floor(references, splits=2000)
    assert got.n == 3
    assert abs(got.value) < 3 * np.std(every) / 2000**0.5
    assert min(every) - 1e-9 <= got.ci_low < got.ci_high <= max(every) + 1e-9


def test_two_pictures_each_still_have_a_value():
    got = kid_interval(normal(2, 3), normal(2, 3, seed=1), resamples=200)
    assert np.isfinite([got.value, got.ci_low, got.ci_high]).all()


def test_vectors_come_back_as_they_were():
    x = normal(3, 2).half().requires_grad_()
    (got,) = as_vectors(x)
    assert got.dtype == torch.float64
    assert not got.requires_grad
    assert torch.equal(got, x.double())


@pytest.mark.parametrize(
    "call",
    [
        lambda: kid(normal(1, 3), normal(5, 3)),
        lambda: kid(normal(5, 3), normal(1, 3)),
        lambda: kid(normal(5, 3), normal(5, 4)),
        lambda: kid(normal(5), normal(5)),
        lambda: kid(normal(5, 0), normal(5, 0)),
        lambda: kid(normal(5, 3) / 0, normal(5, 3)),
        lambda: kid_interval(normal(5, 3), normal(5, 3), groups=["a"] * 4),
        lambda: kid_interval(normal(5, 3), normal(5, 3), groups=["a"] * 5),
        lambda: kid_interval(normal(5, 3), normal(5, 3), level=95),
        lambda: kid_interval(normal(5, 3), normal(5, 3), resamples=0),
        lambda: kid_floor(normal(3, 3)),
        lambda: kid_floor(normal(8, 3), splits=0),
    ],
)
def test_what_has_no_distance_is_refused(call):
    with pytest.raises(InputError):
        call()
