import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from stylelora.metrics.drift import pixel_drift, vector_drift
from stylelora.records import InputError


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 4, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_vector_drift_is_scipys_cosine_distance_of_each_pair():
    ours, base = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    want = [cosine(one, other) for one, other in zip(ours.numpy(), base.numpy(), strict=True)]
    assert vector_drift(ours, base).numpy() == pytest.approx(want, abs=1e-6)
    torch.testing.assert_close(vector_drift(3 * ours, base), vector_drift(ours, base))  # lengths do not matter
    assert vector_drift(base, -base).numpy() == pytest.approx(np.full(5, 2), abs=1e-6)
    same = vector_drift(base, base)
    assert same.numpy() == pytest.approx(np.zeros(5), abs=1e-6)
    assert same.min() >= 0  # rounding must not make a distance negative


def test_pixel_drift_is_the_mean_absolute_difference(images):
    ours, base = images
    want = np.abs(ours.numpy().astype(int) - base.numpy().astype(int)).reshape(4, -1).mean(1) / 255
    assert pixel_drift(ours, base).numpy() == pytest.approx(want, abs=1e-6)
    assert pixel_drift(base, ours).numpy() == pytest.approx(want, abs=1e-6)  # uint8 wraps around below 0
    assert pixel_drift(ours, ours).max() == 0
    assert pixel_drift(torch.zeros_like(base), torch.full_like(base, 255)).tolist() == [1.0] * 4


def test_what_is_not_paired_is_refused(images):
    ours, base = images
    for call in (
        lambda: pixel_drift(ours, base[:1]),
        lambda: pixel_drift(ours.float(), base.float()),
        lambda: pixel_drift(ours.float(), base),
        lambda: pixel_drift(ours, base.float()),
        lambda: pixel_drift(ours[:, :1], base[:, :1]),
        lambda: pixel_drift(ours[:, :, 0], base[:, :, 0]),
        lambda: pixel_drift(ours[0], base[0]),
        lambda: vector_drift(torch.ones(2, 3), torch.ones(1, 3)),
    ):
        with pytest.raises(InputError):
            call()
