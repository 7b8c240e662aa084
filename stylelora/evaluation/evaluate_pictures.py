"""What do the pictures of all conditions show, how far are they from real ones, and what do adapters change unasked?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.evaluation.evaluation import BASE, NO_TRIGGER, Evaluation
from stylelora.metrics.clip_direction import direction_weights, text_change
from stylelora.metrics.clip_score import agreement
from stylelora.metrics.coverage import expected_coverage, neighbourhoods
from stylelora.metrics.diversity import by_prompt, mean_distance, vendi_score
from stylelora.metrics.drift import pixel_drift, vector_drift
from stylelora.metrics.encoders import ImageTextEncoder
from stylelora.metrics.frechet import frechet_distance, frechet_floor
from stylelora.metrics.kid import kid_floor, kid_interval
from stylelora.metrics.memorisation import memorisation
from stylelora.metrics.statistics import mean_interval, share_interval, skill_interval
from stylelora.records import Metric


def measure_content(
    found: Evaluation, encoder: ImageTextEncoder, vectors: Mapping[str, Tensor], styles: Sequence[str]
) -> None:
    """Measure CLIP score, of the content alone and of the whole prompt, and how pictures moved towards styles' words.

    Args:
        found: gets the metrics.
        encoder: the judge.
        vectors: name of a condition -> its pictures' vectors, of length 1, float (N, D).
        styles: names of styles, as words.
    """
    plain = [f"a photo of {content}" for content in found.prompts]
    directions = [text_change(encoder, [f"a {name} painting of {c}" for c in found.prompts], plain) for name in styles]
    for condition in found.conditions:
        found.add(
            condition, f"clip_score[{encoder.name}]", agreement(vectors[condition.name], encoder, condition.contents)
        )
        found.add(
            condition,
            f"clip_score_full[{encoder.name}]",
            agreement(vectors[condition.name], encoder, condition.prompts),
        )
        if condition is not found.base and styles:
            betas = direction_weights(vectors[condition.name] - vectors[BASE], directions)
            for name, beta in zip(styles, betas.T, strict=True):
                found.add(condition, f"clip_direction[{encoder.name}]/{name}", beta, name in condition.weights)


def measure_drift(found: Evaluation, encoder: str, vectors: Mapping[str, Tensor]) -> None:
    """Measure what adapters change in pictures whose prompts do not ask for them.

    Args:
        found: gets the metrics.
        encoder: name of what made the vectors.
        vectors: name of a condition, with NO_TRIGGER behind those without -> float (N, D).
    """
    for condition in found.conditions[1:]:
        if condition.name not in found.untriggered:
            continue
        drift = vector_drift(vectors[condition.name + NO_TRIGGER], vectors[BASE])
        found.add(condition, f"drift[{encoder}]", drift, higher_is_better=False)
        pixels = pixel_drift(found.untriggered[condition.name].images, found.base.images)
        found.add(condition, "pixel_drift", pixels, higher_is_better=False)


def measure_distribution(
    found: Evaluation,
    encoder: str,
    vectors: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
) -> None:
    """Measure how far the base and each adapter are from held-out pictures, how varied they are, and what they copy.

    Distances are of each condition to its own styles, of the base to all; `floor` is what to see them beside: the
    distance of two halves of the held-out pictures, and the coverage and the share of seeming copies to expect of new
    pictures of the style itself. The base's own distance is what an adapter has to get below: the prompts need not
    have the content of the held-out pictures, and then nothing reaches the floor.

    Args:
        found: gets the metrics.
        encoder: name of what made the vectors.
        vectors: name of a condition -> float (N, D), of numbers of about 1 each.
        held_out: style -> float (M, D).
        training: style -> float (L, D).
    """
    no_interval = (-np.inf, np.inf)
    for condition in found.conditions:
        own = vectors[condition.name]
        if min(Counter(found.prompts).values()) > 1:
            distances = list(by_prompt(mean_distance, own, found.prompts).values())
            found.metrics[f"{condition.name}: diversity[{encoder}]"] = mean_interval(distances)
        if len(own) < 2:
            continue
        found.metrics[f"{condition.name}: vendi@{len(own)}[{encoder}]"] = Metric(
            vendi_score(own), *no_interval, len(own), True
        )
        for style in held_out if not condition.weights else [name for name in condition.weights if name in held_out]:
            real = held_out[style]
            if len(set(found.prompts)) > 1:
                distance = kid_interval(own, real, groups=found.prompts)
                found.metrics[f"{condition.name}: kid[{encoder}]/{style}"] = distance
            value, n, m = frechet_distance(own, real)
            found.metrics[f"{condition.name}: frechet@{n},{m}[{encoder}]/{style}"] = Metric(
                value, *no_interval, n, False
            )
            if (count := min(n, m)) > 5:  # of as many as there are held-out ones, spread over the prompts
                some = own[np.linspace(0, n - 1, count).round().astype(int)]
                for name, value in neighbourhoods(some, real)._asdict().items():
                    metric = Metric(value, *no_interval, count, True)
                    found.metrics[f"{condition.name}: {name}@{count},{m}[{encoder}]/{style}"] = metric
                known = Metric(expected_coverage(m, count), *no_interval, count, True)
                found.metrics[f"floor: coverage@{count},{m}[{encoder}]/{style}"] = known
            if condition.weights:
                copied = memorisation(own, training[style], real)
                found.pairs[condition.name, style, encoder] = copied.index, copied.cosine
                shares = share_interval(copied.copied, found.prompts, higher_is_better=False)
                found.metrics[f"{condition.name}: memorisation[{encoder}]/{style}"] = shares
                usual = Metric(copied.expected, *no_interval, len(real), False)
                found.metrics[f"floor: memorisation[{encoder}]/{style}"] = usual
    for style, real in held_out.items():
        if len(real) >= 4:
            found.metrics[f"floor: kid[{encoder}]/{style}"] = kid_floor(real)
            value, n, m = frechet_floor(real)
            found.metrics[f"floor: frechet@{n},{m}[{encoder}]/{style}"] = Metric(value, *no_interval, n, False)


def measure_loss(found: Evaluation, rows: Sequence[dict]) -> None:
    """Measure the skill of each condition on held-out pictures of each style, in all and at each timestep of the bank.

    The skills of all conditions on all styles are the cross matrix; an adapter has learned its style, and not only to
    draw, if its skill is highest on its own.

    Args:
        found: gets the metrics.
        rows: `style`, `condition`, `losses` of each held-out picture, in one order for all conditions.
    """
    losses: dict[tuple[str, str], list] = {}
    for row in rows:
        losses.setdefault((row["condition"], row["style"]), []).append(row["losses"])
    table = {key: np.asarray(value) for key, value in losses.items()}
    for (condition, style), loss in table.items():
        base = table[BASE, style]
        if condition == BASE:
            continue
        found.metrics[f"{condition}: skill/{style}"] = skill_interval(loss.mean(1), base.mean(1))
        for column, t in enumerate(BANK_TIMESTEPS):
            name = f"{condition}: skill_at_{t:03d}/{style}"
            found.metrics[name] = skill_interval(loss[:, column], base[:, column])
