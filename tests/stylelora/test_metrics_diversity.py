import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylelora.metrics.diversity import by_prompt, mean_distance, vendi_score
from stylelora.metrics.statistics import mean_interval
from stylelora.records import InputError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mean_distance_is_that_of_all_pairs():
    x = normal(7, 4, seed=1)
    pairs = [1 - F.cosine_similarity(x[i], x[j], dim=0) for i in range(7) for j in range(i)]
    assert mean_distance(x) == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-12)
    assert mean_distance(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(2)
    assert mean_distance(torch.ones(5, 3)) == pytest.approx(0, abs=1e-12)


def test_vendi_is_the_exponential_of_the_entropy_of_the_similarities():
    x = normal(9, 4, seed=2)
    unit = F.normalize(x, dim=1).numpy()
    values = np.linalg.eigvalsh(unit @ unit.T / 9)
    values = values[values > 1e-12]
    assert vendi_score(x) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-9)


def test_vendi_counts_what_differs():
    assert vendi_score(torch.eye(6)) == pytest.approx(6)
    assert vendi_score(torch.ones(6, 3)) == pytest.approx(1)
    assert vendi_score(torch.eye(3).repeat(4, 1)) == pytest.approx(3)  # copies add nothing
    assert 1 < vendi_score(normal(50, 4, seed=3)) <= 4 + 1e-9  # at most the rank


@pytest.mark.parametrize("measure", [mean_distance, vendi_score])
def test_order_rotation_and_lengths_change_nothing(measure):
    x = normal(10, 6, seed=4)
    turn = torch.linalg.qr(normal(6, 6, seed=5)).Q
    want = measure(x)
    assert measure(x.flip(0)) == pytest.approx(want, abs=1e-10)
    assert measure(x @ turn) == pytest.approx(want, abs=1e-10)
    assert measure(x * torch.linspace(0.1, 9, 10)[:, None]) == pytest.approx(want, abs=1e-10)


def test_prompts_are_measured_alone_and_in_order():
    x = normal(6, 5, seed=6)
    got = by_prompt(mean_distance, x, ["tree", "house", "tree", "house", "tree", "house"])
    assert list(got) == ["tree", "house"]
    assert got["tree"] == pytest.approx(mean_distance(x[[0, 2, 4]]))
    assert got["house"] == pytest.approx(mean_distance(x[[1, 3, 5]]))
    numbers = torch.tensor([0, 1, 0, 1, 0, 1])
    assert list(by_prompt(vendi_score, x, numbers).values()) == [vendi_score(x[::2]), vendi_score(x[1::2])]


@pytest.mark.parametrize("measure, least", [(mean_distance, 0.0), (vendi_score, 1.0)])
def test_collapse_of_each_prompt_shows_by_prompt_and_hides_in_all_pictures(measure, least):
    groups = np.repeat(np.arange(20), 4)
    right, collapsed = normal(80, 4, seed=7), normal(20, 4, seed=8)[groups]
    assert measure(collapsed) > 0.9 * measure(right)  # different prompts, one picture each
    alone = mean_interval(list(by_prompt(measure, collapsed, groups).values()))
    free = mean_interval(list(by_prompt(measure, right, groups).values()))
    assert alone.value == pytest.approx(least, abs=1e-9)
    assert alone.ci_high < free.ci_low
    assert free.n == 20


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_distance(normal(1, 3)),
        lambda: vendi_score(normal(1, 3)),
        lambda: mean_distance(torch.zeros(3, 3)),
        lambda: vendi_score(torch.eye(3) * torch.tensor([1.0, 1.0, 0.0])),
        lambda: mean_distance(normal(4)),
        lambda: by_prompt(mean_distance, normal(4, 3), ["a", "a", "b"]),
        lambda: by_prompt(mean_distance, normal(4, 3), "abab"),
        lambda: by_prompt(mean_distance, normal(3, 3), ["a", "a", "b"]),
    ],
)
def test_what_has_no_diversity_is_refused(call):
    with pytest.raises(InputError):
        call()
