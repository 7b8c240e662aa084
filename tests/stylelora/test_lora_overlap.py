"""Interference of two updates, against the dense matrices."""

import pytest
import torch

from stylelora.lora.factors import Factors, inner
from stylelora.lora.overlap import overlap


def update(seed, rank, n=40):
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((30, rank), (rank, n)))
    return Factors(up, down)


def test_inner_products_and_cosine_are_those_of_the_dense_updates():
    a, b = update(0, 3), update(1, 5)
    assert inner(a, b) == pytest.approx(float((a.dense() * b.dense()).sum()))
    found = overlap(a, b)
    assert found.norms == pytest.approx((float(a.dense().norm()), float(b.dense().norm())))
    assert found.cosine == pytest.approx(float((a.dense() * b.dense()).sum() / a.dense().norm() / b.dense().norm()))


def test_overlap_is_that_of_the_projections():
    a, b = update(0, 3), update(1, 5)
    projections = []
    for one in (a, b):
        v = torch.linalg.svd(one.dense(), full_matrices=False)[2][: one.down.shape[0]]
        projections.append(v.T @ v)
    assert overlap(a, b).inputs == pytest.approx(float((projections[0] * projections[1]).sum()) / 3)


def test_an_update_overlaps_itself_wholly_and_shared_inputs_show_where_the_cosine_does_not():
    a, b = update(0, 4), update(1, 4)
    itself = overlap(a, a)
    assert (itself.cosine, itself.inputs, itself.outputs) == pytest.approx((1, 1, 1))
    shared = overlap(a, Factors(b.up, a.down))
    assert shared.inputs == pytest.approx(1)
    assert abs(shared.cosine) < 0.3
    part = overlap(a, Factors(a.up[:, :2], a.down[:2]))
    assert part.inputs == pytest.approx(1)


def test_independent_updates_overlap_by_chance_only():
    found = [overlap(update(seed, 4, 200), update(seed + 100, 4, 200)).inputs for seed in range(30)]
    assert sum(found) / len(found) == pytest.approx(4 / 200, rel=0.3)


def test_an_update_of_nothing_interferes_with_nothing():
    nothing = Factors(torch.zeros(30, 2, dtype=torch.float64), update(0, 2).down)
    assert overlap(nothing, update(1, 2)).inputs == 0
