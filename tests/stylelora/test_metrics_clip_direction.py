import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylelora.metrics.clip_direction import direction_weights, text_change
from stylelora.metrics.encoders import ClipEncoder
from stylelora.records import InputError


def known_mixture(kinds=2, n=5, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(n, 16, generator=generator)
    directions = [common + torch.randn(n, 16, generator=generator) for _ in range(kinds)]
    beta = torch.rand(n, kinds, generator=generator) * (torch.arange(n)[:, None] != 2)  # the third did not change
    change = sum(beta[:, k : k + 1] * directions[k] for k in range(kinds))
    return change + noise * torch.randn(n, 16, generator=generator), directions, beta.double().numpy()


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_a_known_mixture_is_found(kinds):
    change, directions, beta = known_mixture(kinds)
    got = direction_weights(change, directions)
    assert got == pytest.approx(beta, abs=1e-5)
    assert got.dtype == np.float64


def test_one_cosine_for_each_style_counts_what_styles_share_twice():
    _, directions, _ = known_mixture()
    change = directions[0]  # style A alone
    assert F.cosine_similarity(change, directions[1]).max() > 0.3
    assert direction_weights(change, directions)[:, 1] == pytest.approx(np.zeros(5), abs=1e-6)


def test_weights_are_the_best_nonnegative_ones():
    change, directions, _ = known_mixture(noise=3.0)
    got = direction_weights(change, directions)
    assert got.min() == 0  # else the constraint is not tested
    for row in range(5):
        columns = torch.stack([direction[row] for direction in directions], 1).double().numpy()
        target = change[row].double().numpy()
        best = np.inf
        for active in itertools.chain.from_iterable(itertools.combinations(range(2), size) for size in (0, 1, 2)):
            beta = np.zeros(2)
            beta[list(active)] = np.linalg.lstsq(columns[:, list(active)], target)[0] if active else []
            if (beta >= 0).all():
                best = min(best, np.linalg.norm(columns @ beta - target))
        assert np.linalg.norm(columns @ got[row] - target) == pytest.approx(best)


def test_weights_scale_with_the_change_and_order_follows():
    change, directions, _ = known_mixture(noise=0.5)
    want = direction_weights(change, directions)
    assert direction_weights(3 * change, directions) == pytest.approx(3 * want, abs=1e-5)
    assert direction_weights(change, directions[::-1]) == pytest.approx(want[:, ::-1], abs=1e-6)
    back = direction_weights(change.flip(0), [direction.flip(0) for direction in directions])
    assert back == pytest.approx(want[::-1], abs=1e-6)
    assert direction_weights(change[:0], [direction[:0] for direction in directions]).shape == (0, 2)


def test_changes_are_differences_of_unit_vectors(tiny_clip):
    encoder = ClipEncoder(str(tiny_clip))
    styled, plain = ["an ink painting of a cat", "a boat in ink"], ["a photo of a cat", "a boat"]
    words = text_change(encoder, styled, plain)
    torch.testing.assert_close(words, encoder.encode_texts(styled) - encoder.encode_texts(plain))
    assert direction_weights(words, [words]) == pytest.approx(np.ones((2, 1)), abs=1e-5)


def test_what_is_not_paired_is_refused(tiny_clip):
    encoder = ClipEncoder(str(tiny_clip))
    change, directions, _ = known_mixture()
    for call in (
        lambda: text_change(encoder, ["a cat"], ["a", "b"]),
        lambda: text_change(encoder, "cat", "dog"),
        lambda: direction_weights(change, []),
        lambda: direction_weights(change, [directions[0][:1]]),
        lambda: direction_weights(change * float("nan"), directions),
        lambda: direction_weights(change, [directions[0], directions[1] * float("nan")]),
    ):
        with pytest.raises(InputError):
            call()
