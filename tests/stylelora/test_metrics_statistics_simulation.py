"""How often intervals cover and tests reject, in designs like those of an evaluation. Each figure is printed (-s)."""

import numpy as np
import pytest

from stylelora.metrics.comparison import equivalence, paired_difference
from stylelora.metrics.nested import nested_interval
from stylelora.metrics.statistics import mean_interval, ratio_interval

pytestmark = pytest.mark.slow
SEEDS = 4  # pictures of a prompt


def prompts_of(count, skewed, generator):
    """What each prompt brings, mean 0 and variance 1, (count,)."""
    return generator.exponential(size=count) - 1 if skewed else generator.normal(size=count)


def covers(metric, truth):
    return metric.ci_low <= truth <= metric.ci_high


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("count", [40, 60])
def test_intervals_cover_what_they_say(count, skewed):
    generator = np.random.default_rng([count, skewed])
    ids = np.repeat(np.arange(count), SEEDS)
    covered = {"mean": 0, "attainment": 0, "difference": 0}
    for dataset in range(4000):
        options = {"resamples": 500, "seed": dataset}
        prompt = prompts_of(count, skewed, generator)
        noise = generator.normal(size=(4, len(ids)))
        score = 0.5 * prompt[ids] + 0.5 * noise[0]
        single = 0.3 + 0.2 * prompt
        interaction = 0.1 * generator.normal(size=(2, count))
        gain = (0.6 * single + interaction[0])[ids] + 0.15 * noise[1]
        other = score + interaction[1][ids] + 0.15 * noise[3] - 0.1
        covered["mean"] += covers(mean_interval(score, ids, **options), 0)
        covered["attainment"] += covers(ratio_interval(gain, single[ids] + 0.15 * noise[2], ids, **options), 0.6)
        covered["difference"] += covers(mean_interval(score - other, ids, **options), 0.1)
    print(f"\n{count} prompts, skewed: {skewed}:", {name: hits / 4000 for name, hits in covered.items()})
    assert all(0.93 <= hits / 4000 <= 0.97 for hits in covered.values()), covered


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("count", "seeds"), [(25, 8), (50, 4)])
def test_sign_flips_reject_as_often_as_they_say_where_independent_pictures_reject_too_often(count, seeds, skewed):
    generator = np.random.default_rng([count, skewed])
    ids = np.repeat(np.arange(count), seeds)
    rejected = {"sign flips of prompts": 0, "interval over prompts": 0, "t test of pictures": 0}
    for dataset in range(8000):
        first = prompts_of(count, skewed, generator)[ids] + np.sqrt(0.5) * generator.normal(size=len(ids))
        gap = 0.64 * prompts_of(count, skewed, generator)[ids] + generator.normal(size=len(ids))
        got = paired_difference(first, first - gap, ids, resamples=400, seed=dataset)
        rejected["sign flips of prompts"] += got.p_value <= 0.05
        rejected["interval over prompts"] += not covers(got.difference, 0)
        rejected["t test of pictures"] += abs(gap.mean()) > 1.97 * gap.std(ddof=1) / np.sqrt(len(gap))
    rates = {name: hits / 8000 for name, hits in rejected.items()}
    print(f"\n{count} prompts x {seeds} seeds, skewed: {skewed}:", rates)
    assert 0.04 <= rates["sign flips of prompts"] <= 0.06
    assert 0.04 <= rates["interval over prompts"] <= 0.07
    assert rates["t test of pictures"] > 0.13


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3, 1.0])
def test_three_training_seeds_bound_the_next_where_one_does_not(spread):
    generator = np.random.default_rng([4, int(10 * spread)])
    row, column = np.divmod(np.arange(3 * 50), 50)
    covered = {"nested": 0, "pigeonhole": 0, "one seed": 0}
    rejected = {"training seeds": 0, "pooled": 0}
    for dataset in range(4000):
        table = (
            spread * generator.normal(size=(3, 1)) + generator.normal(size=50) + 0.5 * generator.normal(size=(3, 50))
        )
        covered["nested"] += covers(nested_interval(table.ravel(), row, column), 0)
        none, many = np.zeros(150), {"resamples": 200, "seed": dataset}
        rejected["training seeds"] += paired_difference(table.ravel(), none, column, train_seeds=row).p_value <= 0.05
        rejected["pooled"] += paired_difference(table.ravel(), none, column, **many).p_value <= 0.05
        covered["one seed"] += covers(mean_interval(table[0], resamples=300, seed=dataset), 0)
        rows, columns = generator.multinomial(3, [1 / 3] * 3, 300), generator.multinomial(50, [0.02] * 50, 300)
        low, high = np.quantile((rows @ table * columns).sum(1) / 150, [0.025, 0.975])
        covered["pigeonhole"] += low <= 0 <= high
    rates = {name: hits / 4000 for name, hits in covered.items()}
    false_positives = {name: hits / 4000 for name, hits in rejected.items()}
    print(f"\ntraining seeds vary {spread} times as much as prompts:", rates, "false positives:", false_positives)
    assert 0.015 <= false_positives["training seeds"] <= 0.06  # the same intervals, turned round
    assert 0.94 <= rates["nested"] <= 0.985  # wide rather than narrow where seeds matter little
    if spread == 1:
        assert rates["pigeonhole"] < 0.85
        assert rates["one seed"] < 0.5
        assert false_positives["pooled"] > 0.3


def test_equivalence_is_claimed_wrongly_at_most_as_often_as_it_says():
    generator = np.random.default_rng(5)
    ids = np.repeat(np.arange(50), SEEDS)
    claimed = {"at the margin": 0, "equal": 0}
    for _ in range(8000):
        noise = (0.2 * generator.normal(size=50))[ids] + 0.2 * generator.normal(size=len(ids))
        claimed["at the margin"] += equivalence(noise + 0.1, 0 * noise, ids, 0.1) <= 0.05
        claimed["equal"] += equivalence(noise, 0 * noise, ids, 0.1) <= 0.05
    rates = {name: hits / 8000 for name, hits in claimed.items()}
    print("\nequivalence claimed:", rates)
    assert 0.04 <= rates["at the margin"] <= 0.06
    assert rates["equal"] > 0.8
