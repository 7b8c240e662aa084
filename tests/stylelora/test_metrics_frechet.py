import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from stylelora.metrics.frechet import Frechet, frechet_distance, frechet_floor
from stylelora.metrics.kid import kid
from stylelora.records import InputError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_many_vectors_agree_with_the_matrix_root():
    x, y = normal(200, 8, seed=1) @ normal(8, 8, seed=2) + 0.5, normal(150, 8, seed=3)
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    want = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a + b - 2 * root.real)
    assert frechet_distance(x, y).value == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("n, m, width", [(20, 30, 64), (30, 20, 64), (64, 10, 32), (2, 2, 5)])
def test_few_vectors_agree_with_the_eigenvalues(n, m, width):
    """Tr (S_x S_y)^(1/2) = sum of roots of the eigenvalues of S_x^(1/2) S_y S_x^(1/2), both singular here."""
    x, y = normal(n, width, seed=4) * 2, normal(m, width, seed=5) + 1
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    values, vectors = np.linalg.eigh(a)
    half = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    root = np.sqrt(np.linalg.eigvalsh(half @ b @ half).clip(0)).sum()
    want = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a) + np.trace(b) - 2 * root
    # roots of eigenvalues that should be 0 cost the reference its digits
    assert frechet_distance(x, y).value == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("n, m", [(60, 80), (300, 200)])
def test_it_is_torchmetrics_fid_of_the_same_features(n, m):
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = normal(n, 48, seed=6) * 0.8 + 0.3, normal(m, 48, seed=7)
    other = FrechetInceptionDistance(feature=Given(48)).set_dtype(torch.float64)
    other.update(x, real=False)
    other.update(y, real=True)
    assert frechet_distance(x, y).value == pytest.approx(float(other.compute()), rel=1e-5)


class Given(nn.Module):
    """The trivial encoder: its pictures are vectors already."""

    def __init__(self, width):
        super().__init__()
        self.num_features = width

    def forward(self, vectors):
        return vectors


def test_one_dimension_has_a_closed_form():
    x, y = normal(30, 1, seed=8) * 3, normal(40, 1, seed=9) + 2
    want = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_distance(x, y).value == pytest.approx(want.item(), rel=1e-10)


def test_order_rotation_and_shift_change_nothing_and_scale_squares():
    x, y = normal(12, 20, seed=10) + 1, normal(9, 20, seed=11)
    turn = torch.linalg.qr(normal(20, 20, seed=12)).Q
    want = frechet_distance(x, y)
    assert frechet_distance(x.flip(0), y.roll(2, 0)).value == pytest.approx(want.value, rel=1e-10)
    assert frechet_distance(x @ turn + 5, y @ turn + 5).value == pytest.approx(want.value, rel=1e-10)
    assert frechet_distance(3 * x, 3 * y).value == pytest.approx(9 * want.value, rel=1e-10)
    assert frechet_distance(y, x) == Frechet(pytest.approx(want.value, rel=1e-10), 9, 12)
    assert 0 <= frechet_distance(x, x).value < 1e-10


def test_the_sizes_travel_with_the_number():
    got = frechet_distance(normal(12, 3), normal(9, 3, seed=1))
    assert (got.n, got.m) == (12, 9)
    assert str(Frechet(12.34567, 12, 9)) == "12.35@(12,9)"


def test_a_hundred_pictures_reward_collapse_that_many_penalise():
    """Why it is second to KID: variances 1/i in 256 dimensions, the narrow generator has 0.6 of the spread."""
    scale = torch.arange(1, 257, dtype=torch.float64).rsqrt()
    trace = scale.square().sum().item()

    def sample(n, seed, spread=1.0):
        return spread * scale * normal(n, 256, seed=seed)

    right, narrow = (
        np.mean([frechet_distance(sample(100, 3 * s, spread), sample(100, 3 * s + 1)).value for s in range(10)]) / trace
        for spread in (1.0, 0.6)
    )
    assert narrow < right - 0.01  # the wrong one wins
    assert right > 0.45  # of a truth of 0
    right, narrow = (
        frechet_distance(sample(2000, 90, spread), sample(2000, 91)).value / trace for spread in (1.0, 0.6)
    )
    assert right < 0.05
    assert narrow == pytest.approx(0.4**2, abs=0.03)

    # numbers of about 1 each, as the kernel wants them
    right, narrow = (
        [kid(16 * sample(100, 3 * s, spread), 16 * sample(100, 3 * s + 1)) for s in range(40)] for spread in (1.0, 0.6)
    )
    assert abs(np.mean(right)) < 3 * np.std(right) / 40**0.5
    assert np.mean(narrow) > np.mean(right) + np.std(right)


def test_the_bootstrap_of_a_frechet_distance_lies_above_it():
    """Why none is offered: repeated vectors span less, which is more bias."""
    x, y = normal(100, 64, seed=13), normal(100, 64, seed=14)
    generator = np.random.default_rng(0)
    picks = [(generator.integers(100, size=100), generator.integers(100, size=100)) for _ in range(50)]
    values = [frechet_distance(x[a], y[b]).value for a, b in picks]
    assert min(values) > frechet_distance(x, y).value


def test_the_floor_is_the_distance_of_halves():
    references = normal(41, 10, seed=15)
    got = frechet_floor(references, splits=40)
    assert (got.n, got.m) == (20, 21)
    generator = np.random.default_rng(3)
    values = []
    for _ in range(40):
        order = generator.permutation(41)
        values.append(frechet_distance(references[order[:20]], references[order[20:]]).value)
    assert got.value == pytest.approx(np.mean(values), abs=4 * np.std(values) / 40**0.5)
    assert frechet_floor(references, splits=40) == got != frechet_floor(references, splits=40, seed=1)
    assert frechet_floor(torch.cat([references] * 4), splits=5).value < got.value / 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: frechet_distance(normal(1, 3), normal(5, 3)),
        lambda: frechet_distance(normal(5, 3), normal(5, 4)),
        lambda: frechet_distance(normal(5, 3), normal(5, 3) / 0),
        lambda: frechet_floor(normal(3, 3)),
        lambda: frechet_floor(normal(8, 3), splits=0),
    ],
)
def test_what_has_no_distance_is_refused(call):
    with pytest.raises(InputError):
        call()
