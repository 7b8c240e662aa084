import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylelora.metrics.memorisation import memorisation, nearest
from stylelora.metrics.statistics import mean_interval
from stylelora.records import InputError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def style(n, seed):
    """Pictures of one style: near each other, so that nearness alone tells nothing."""
    return normal(1, 12, seed=999) * 2 + normal(n, 12, seed=seed)


def test_nearest_is_that_of_a_loop():
    x, training = normal(6, 4, seed=1), normal(9, 4, seed=2)
    index, cosine = nearest(x, training)
    for row, (i, c) in enumerate(zip(index.tolist(), cosine.tolist(), strict=True)):
        every = [F.cosine_similarity(x[row], other, dim=0).item() for other in training]
        assert i == int(np.argmax(every))
        assert c == pytest.approx(max(every), abs=1e-12)


def test_copies_are_found_with_their_originals():
    training, held_out = style(100, 1), style(40, 2)
    originals = torch.tensor([7, 3, 3, 99, 0])
    copies = 5 * (training[originals] + 0.01 * normal(5, 12, seed=3))
    got = memorisation(copies, training, held_out)
    assert torch.equal(got.index, originals)
    assert got.share == 1
    assert got.copied.all()
    assert (got.cosine > 0.99).all()
    assert (got.cosine > got.line).all()


def test_one_copy_among_new_pictures_is_told_apart():
    training, held_out, fresh = style(100, 4), style(40, 5), style(30, 6)
    fresh[11] = training[50]
    got = memorisation(fresh, training, held_out)
    assert got.copied[11]
    assert got.index[11] == 50
    assert got.cosine[11] == pytest.approx(1)
    assert got.share == pytest.approx(got.copied.double().mean().item())
    assert got.share < 0.3
    assert mean_interval(got.copied).value == pytest.approx(got.share)


@pytest.mark.parametrize("held_out, expected", [(100, 0.05), (30, 0.05), (9, 0.1)])
def test_new_pictures_exceed_the_line_as_often_as_expected(held_out, expected):
    """With 30 held-out pictures the usual linear quantile would be exceeded by 8 %."""
    shares, linear = [], []
    for s in range(400):
        training, others, fresh = style(60, 3 * s), style(held_out, 3 * s + 1), style(50, 3 * s + 2)
        got = memorisation(fresh, training, others)
        assert got.expected == pytest.approx(expected)
        shares.append(got.share)
        line = nearest(others, training)[1].quantile(0.95)
        linear.append((got.cosine > line).double().mean().item())
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / 400**0.5)
    if held_out == 30:
        assert np.mean(linear) > 0.065


def test_order_rotation_and_lengths_change_nothing_but_rows():
    generated, training, held_out = style(20, 7), style(30, 8), style(25, 9)
    turn = torch.linalg.qr(normal(12, 12, seed=10)).Q
    want = memorisation(generated, training, held_out)
    got = memorisation(3 * generated.flip(0) @ turn, training.roll(1, 0) @ turn, 0.1 * held_out.flip(0) @ turn)
    assert got.line == pytest.approx(want.line, abs=1e-12)
    assert torch.allclose(got.cosine.flip(0), want.cosine)
    assert torch.equal(got.index.flip(0), (want.index + 1) % 30)
    assert got.share == want.share


@pytest.mark.parametrize(
    "call",
    [
        lambda: memorisation(normal(1, 3), normal(5, 3), normal(5, 3)),
        lambda: memorisation(normal(5, 3), normal(1, 3), normal(5, 3)),
        lambda: memorisation(normal(5, 3), normal(5, 3), normal(1, 3)),
        lambda: memorisation(normal(5, 3), normal(5, 3), normal(5, 4)),
        lambda: memorisation(normal(5, 3), normal(5, 3), normal(5, 3), quantile=95),
    ],
)
def test_what_cannot_be_compared_is_refused(call):
    with pytest.raises(InputError):
        call()
