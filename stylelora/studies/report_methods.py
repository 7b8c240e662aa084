"""The sentences of a report on its methods: how numbers were computed, and what they do not say."""

from __future__ import annotations

from collections.abc import Sequence

from stylelora.metrics.style import STYLE_GAIN
from stylelora.records import Quantity
from stylelora.studies.plan import Study
from stylelora.studies.report_design import Design
from stylelora.studies.report_measures import scales, units
from stylelora.studies.report_outcome import LEVEL, Outcome
from stylelora.studies.report_read import Arm, Reading
from stylelora.studies.report_words import adapters_of, bases_of, plural, styles_of


def covers(arms: Sequence[Arm], primary: Quantity | None) -> str:
    """Return what intervals and p-values hold for, by the numbers of training seeds."""
    seeds, others = sorted({len(arm.seeds) for arm in arms}), f"other {units(primary)} like these"
    if seeds == [1]:
        return (
            f"Each arm has one training seed, so intervals and p-values hold for {others}, but for these very "
            "adapters: another training of the same recipe may lie outside."
        )
    number = f"{seeds[0]} training seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} training seeds"
    said = f"Each arm has {number}, so intervals and p-values hold for other training seeds and {others}."
    if seeds[0] == 1:
        said += " The interval of an arm with a single one holds for that adapter only."
    return said


def method(study: Study, found: Reading, outcome: Outcome, design: Design) -> list[str]:
    """Return how pictures were made, and how intervals and p-values were computed."""
    start, rule = (design.kept.get(f"model.{name}") for name in ("start", "keep"))
    said = [
        "Prompts are the trigger words of the adapters that draw, and the content, whatever else their captions said; "
        "the base gets the content alone."
    ]
    if start and float(start):
        said.append(
            f"The base alone draws the first {float(start):.0%} of the sampling steps; at their timesteps skill is 0."
        )
    if rule:
        said.append(
            f"Of each training the adapter of one epoch is kept and tested, by the rule `{rule}` of model.keep."
            + " Skill and nearness to the style are measured with the held-out pictures that it goes by, so both are a "
            "little too good." * (rule != "last")
        )
    said += [
        "Every arm draws the same prompts with the same seeds, so arms are compared picture by picture. The unit is "
        "the prompt, or, for skill, the held-out picture; several pictures of a prompt count as one, by their mean."
    ]
    if max(len(arm.seeds) for arm in found.arms) > 1:
        said.append(
            "Intervals are of 95 %: the half-widths of the t intervals of training seeds and of prompts add in "
            "quadrature, each with its own degrees of freedom (Zou and Donner 2008). Arms with the same training seeds "
            "are paired by seed; of others, each arm's seeds add an error of their own. The p-value is the level at "
            "which the interval reaches 0."
        )
    else:
        said.append(
            "Intervals are of 95 %, by an expanded percentile bootstrap over prompts (Hesterberg 2015); p-values of "
            "differences are by flipping signs of the prompts' differences (Fisher 1935)."
        )
    if outcome.responses:
        said.append(
            "The trend is tested by the two-sided permutation test of Jonckheere and Terpstra on the adapters' means; "
            "tau is Kendall's tau-b of level and mean. The change per level is the least-squares slope through the "
            "arms' means, with levels counted 1, 2, 3."
        )
    said.append(
        "p-values are adjusted by Holm's method over all comparisons of a kind that could be measured; something is "
        f"shown if the adjusted p-value is at most {LEVEL:g}."
    )
    if study.margin is not None:
        said.append(
            f"Equality is tested by two one-sided tests against the margin of {study.margin:g} that the study's file "
            "states, and adjusted by Holm among themselves. Undecided: neither a difference nor equality is shown."
        )
    return said


def limits(study: Study, found: Reading, outcome: Outcome) -> list[str]:
    """Return what the results do not say."""
    said = [
        covers(found.arms, outcome.primary),
        f"All is measured on the {plural('base', bases_of(study))} and the {plural('style', styles_of(found))}: "
        "others may answer otherwise.",
        "The judges are networks, not people; a number says how a network sees the pictures below.",
    ]
    if outcome.scale:
        said.append(
            f"The scale of attainment, from the base to {scales(outcome)}, is treated as exact: intervals do not "
            "cover its own error."
        )
    if small := [one for one in outcome.responses if one.trend.least > LEVEL]:
        said.append(
            f"With {adapters_of(small[0])} adapters no trend can be shown: the smallest possible p-value is "
            f"{small[0].trend.least:.2g}."
        )
    if any(arm.called(STYLE_GAIN.name) and not arm.ceilings for arm in found.arms):
        said.append("What real pictures of the style would reach in style gain was not measured by these tests.")
    if found.excluded:
        said.append(f"{len(found.excluded)} of {len(study.runs)} runs are not counted; see what was left out.")
    others = ", apart from the tests' own endpoints, which are adjusted within each test" * bool(study.together)
    said.append(f"Only the primary metric is tested{others}. All other columns describe, and suggest what to ask next.")
    return said
