"""The property matrix of weight-space blending, in double precision, with the rows where a method is known to fail."""

import math

import pytest
import torch

from stylelora.lora import compose
from stylelora.lora.compose import dare, iso_c, knots_ties, np_lora, ties, tsv_m, weighted_sum
from stylelora.lora.factors import Factors, orthonormalised, stacked, thin_svd, truncated
from stylelora.lora.mix import MixSpec, Part
from stylelora.records import InputError

EXACT = 1e-12


def factors(seed, rank=4, shape=(24, 20)):
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((shape[0], rank), (rank, 20)))
    return Factors(up, down)


def parts(weights=(0.6, 0.4), ranks=(4, 4)):
    total = sum(weights)
    return [
        Part(f"style {i}", weight / total, factors(i, rank))
        for i, (weight, rank) in enumerate(zip(weights, ranks, strict=True))
    ]


def error(got, want):
    """Relative Frobenius norm of the difference."""
    return float((got - want).norm() / want.norm())


def plain_sum(given):
    return sum(part.share * part.update.up @ part.update.down for part in given)


METHODS = {
    "sum": weighted_sum,
    "truncated": lambda given: truncated(weighted_sum(given), 64),
    "ties": lambda given: ties(given, density=1.0),
    "knots_ties": lambda given: knots_ties(given, density=1.0),
    "tsv_m": lambda given: tsv_m(given, epsilon=0.0),
    "iso_c": iso_c,
    "np_lora": np_lora,
    "dare": lambda given: dare(given, "a layer"),
}
EVERY = pytest.mark.parametrize("name", METHODS)


@EVERY
def test_one_adapter_is_itself(name):
    (part,) = parts((1.0,), (4,))
    got = error(METHODS[name]([part]).dense(), part.update.dense())
    if name == "iso_c":  # flattens the spectrum of a single adapter, too
        assert 0.05 < got < 0.5
    elif name == "dare":  # drops half of it
        assert 0.5 < got < 1.5
    else:
        assert got < EXACT


@EVERY
def test_the_order_of_adapters_is_no_matter(name):
    given = parts((0.5, 0.3, 0.2), (4, 2, 3))
    merged = METHODS[name](given).dense()
    assert error(METHODS[name]([given[2], given[0], given[1]]).dense(), merged) < EXACT


@EVERY
def test_only_the_update_counts_not_its_factors(name):
    """(B, A) -> (B G^-1, G A) is the same update."""
    given = parts()
    change = torch.randn(4, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    other = Factors(given[0].update.up @ change.inverse(), change @ given[0].update.down)
    changed = [Part(given[0].name, given[0].share, other), given[1]]
    assert error(METHODS[name](changed).dense(), METHODS[name](given).dense()) < 1e-11


@EVERY
def test_all_updates_doubled_double_the_blend(name):
    given = parts()
    doubled = [Part(part.name, part.share, part.update.scaled(2)) for part in given]
    assert error(METHODS[name](doubled).dense(), 2 * METHODS[name](given).dense()) < EXACT


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sum", 0, EXACT), ("truncated", 0, EXACT), ("ties", 0, EXACT), ("knots_ties", 0, EXACT),
        ("tsv_m", 0.2, 0.8), ("iso_c", 0.05, 0.5), ("np_lora", 0.2, 0.6),
    ],
)  # fmt: skip
def test_an_adapter_blended_with_itself(name, low, high):
    """The last three are expected to fail: they take what both share for interference, or flatten it."""
    update = factors(0)
    same = [Part("a", 0.6, update), Part("b", 0.4, update)]
    method = (lambda given: tsv_m(given)) if name == "tsv_m" else METHODS[name]  # singular without regularisation
    assert low <= error(method(same).dense(), update.dense()) <= high


@EVERY
def test_ranks_may_differ_and_the_result_is_low_rank(name):
    given = parts(ranks=(2, 5))
    rank = torch.linalg.matrix_rank(METHODS[name](given).dense())
    assert rank <= 7 or name in ("ties", "dare")  # dense: to be truncated for a file


def test_the_sum_is_the_sum():
    given = parts((0.5, 0.3, 0.2), (4, 2, 3))
    assert error(weighted_sum(given).dense(), plain_sum(given)) < EXACT
    assert weighted_sum(given).up.shape == (24, 9)


@pytest.mark.parametrize("rank", range(1, 10))
def test_truncation_loses_the_tail_of_the_spectrum(rank):
    whole = weighted_sum(parts((0.5, 0.3, 0.2), (4, 2, 3)))
    tail = torch.linalg.svdvals(whole.dense())[rank:].square().sum().sqrt()
    cut = truncated(whole, rank)
    assert cut.up.shape[1] == cut.down.shape[0] == rank
    assert (whole.dense() - cut.dense()).norm() == pytest.approx(float(tail), abs=1e-10)


def test_the_thin_svd_is_one():
    whole = stacked([factors(0, 30), factors(1, 3)])  # of a higher rank than there are inputs
    u, s, vh = thin_svd(whole)
    assert error((u * s) @ vh, whole.dense()) < EXACT
    assert torch.allclose(s, torch.linalg.svdvals(whole.dense()))
    for basis in (u.T @ u, vh @ vh.T):
        assert torch.allclose(basis, torch.eye(20, dtype=torch.float64))


def test_orthonormalised_is_the_polar_factor():
    basis = factors(3, 6).up
    u, _, vh = torch.linalg.svd(basis, full_matrices=False)
    assert torch.allclose(orthonormalised(basis, 0.0), u @ vh)


def test_ties_against_its_definition():
    given = parts()
    a, b = (0.6 * given[0].update.dense(), 0.4 * given[1].update.dense())
    want = torch.zeros_like(a)
    keep = [sorted(one.abs().flatten().tolist(), reverse=True)[round(0.3 * one.numel()) - 1] for one in (a, b)]
    for i in range(24):
        for j in range(20):
            x, y = (one[i, j] if one[i, j].abs() >= low else 0.0 for one, low in zip((a, b), keep, strict=True))
            sign = math.copysign(1, x + y)
            want[i, j] = sum(v for v in (x, y) if v * sign > 0)
    assert error(ties(given, density=0.3).dense(), want) < EXACT


def test_knots_with_a_plain_sum_is_the_sum(monkeypatch):
    given = parts(ranks=(2, 5))
    monkeypatch.setattr(compose, "_elected", lambda updates: sum(updates))
    assert error(knots_ties(given, density=1.0).dense(), plain_sum(given)) < EXACT


def test_knots_elects_in_the_basis_of_the_joint_svd():
    given = parts(ranks=(2, 5))
    weighted = [part.share * part.update.dense() for part in given]
    u, s, vh = torch.linalg.svd(torch.cat(weighted, 1), full_matrices=False)
    u, blocks = u[:, :7], [(s[:, None] * block)[:7] for block in vh.split(20, 1)]
    sign = sum(blocks).sign()
    want = u @ sum(torch.where(block.sign() == sign, block, 0) for block in blocks)
    assert error(knots_ties(given, density=1.0).dense(), want) < 1e-10


def test_dare_keeps_the_sum_on_average_and_is_reproducible():
    given = parts()
    draws = [dare(given, "layer", density=0.5, seed=seed).dense() for seed in range(400)]
    assert error(sum(draws) / len(draws), plain_sum(given)) < 0.1
    assert torch.equal(dare(given, "layer", seed=3).dense(), draws[3])
    assert not torch.equal(dare(given, "another", seed=3).dense(), draws[3])
    assert error(dare(given, "layer", density=1.0).dense(), plain_sum(given)) < EXACT


def test_tsv_m_keeps_independent_adapters_and_their_norm():
    given = parts()
    merged = tsv_m(given, epsilon=0.0).dense()
    assert torch.allclose(
        torch.linalg.svdvals(merged)[:8].sort().values,
        torch.cat([part.share * torch.linalg.svdvals(part.update.dense())[:4] for part in given]).sort().values,
    )
    assert error(tsv_m(given).dense(), merged) < 1e-4


def test_iso_c_is_flat_and_keeps_the_norm():
    given = parts()
    values = torch.linalg.svdvals(iso_c(given).dense())
    assert torch.allclose(values[:8], values[0].expand(8))
    assert values[8:].max() < 1e-12
    assert iso_c(given).dense().norm() == pytest.approx(float(plain_sum(given).norm()))


def test_np_lora_halves_what_two_adapters_do_to_each_others_inputs():
    """Each is protected in one of the two orders that are averaged."""
    given = parts()
    inputs = torch.linalg.qr(given[0].update.down.T)[0]  # what the first adapter listens to
    first, second = (part.share * part.update.dense() for part in given)
    protected = first + second @ (torch.eye(20) - inputs @ inputs.T)
    other = torch.linalg.qr(given[1].update.down.T)[0]
    mirrored = second + first @ (torch.eye(20) - other @ other.T)
    assert error(np_lora(given).dense(), (protected + mirrored) / 2) < EXACT
    assert error(np_lora(given, protection=0.0).dense(), plain_sum(given)) < EXACT


def test_weights_are_a_strength_and_a_mixture():
    mix = MixSpec.of(["a", "b", "c"], [0.6, 0.0, 0.3])
    assert (mix.names, mix.strength) == (("a", "c"), pytest.approx(0.9))
    assert mix.shares == pytest.approx((2 / 3, 1 / 3))
    assert MixSpec.of(["a"], [0]).names == ()
    assert MixSpec.of(["a"], [0]).strength == 0


@pytest.mark.parametrize(
    ("names", "weights", "said"),
    [
        (["a", "b"], [1.0], "2 adapters and 1 weights"),
        (["a", "a"], [1.0, 0.5], "named twice"),
        (["a"], [-0.1], "weight -0.1 is not"),
        (["a"], [math.nan], "weight nan is not"),
        (["a"], [math.inf], "weight inf is not"),
    ],
)
def test_bad_weights_are_refused(names, weights, said):
    with pytest.raises(InputError, match=said):
        MixSpec.of(names, weights)


def padded(update, by=3):
    """The same update, as a merged file holds it: with directions that do nothing."""
    up = torch.cat([update.up, torch.zeros(len(update.up), by, dtype=update.up.dtype)], 1)
    return Factors(up, torch.cat([update.down, torch.zeros(by, update.down.shape[1], dtype=update.down.dtype)]))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["ties", "knots_ties", "tsv_m", "iso_c", "np_lora"])
@pytest.mark.parametrize("same", [False, True])
def test_directions_that_do_nothing_change_nothing(name, kind, same):
    """Neither zeros in a file nor the rounding errors of two equal adapters are taken for directions."""
    method = {
        "ties": lambda given: ties(given, density=0.5),
        "knots_ties": lambda given: knots_ties(given, density=0.5),
        "tsv_m": tsv_m,
    }.get(name, METHODS[name])
    wide = (320, 320)
    generator = torch.Generator().manual_seed(0)
    up, down = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((320, 16), (16, 320)))
    other = Factors(up.flip(0), down.flip(1))
    given = [Part("a", 0.6, Factors(up, down)), Part("b", 0.4, Factors(up, down) if same else other)]
    want = method(given).dense()
    cast = [
        Part(p.name, p.share, padded(Factors(p.update.up.to(kind), p.update.down.to(kind)), 3 * (p.name == "a")))
        for p in given
    ]
    got = method(cast).dense().double()
    assert want.shape == wide
    # KnOTS counts entries over all directions, of which equal adapters have fewer than their ranks say
    assert error(got, want) < (2e-2 if kind == torch.float32 and name in ("ties", "knots_ties") else 1e-3)


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="no method is called 'linear'"):
        compose.merged(parts(), "layer", "linear")
