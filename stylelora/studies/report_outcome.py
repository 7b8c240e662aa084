"""The outcome of a study: means of the arms, differences between them, and trends, all of them planned in its file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylelora.evaluation.finished import Series
from stylelora.evaluation.sides import difference, equal
from stylelora.metrics.attainment import ATTAINMENT
from stylelora.metrics.both import BOTH_ABOVE_COIN_FLIP, BOTH_SCORE_OF_BASE, COIN_FLIP
from stylelora.metrics.clip_score import CLIP_SCORE_CHANGE
from stylelora.metrics.comparison import Comparison, holm
from stylelora.metrics.contrast import contrast
from stylelora.metrics.nested import crossed
from stylelora.metrics.skill import SKILL
from stylelora.metrics.style import STYLE_GAIN
from stylelora.metrics.trend import Trend, trend
from stylelora.records import Endpoint, Estimate, Quantity
from stylelora.runs.result import read_metrics, read_tests
from stylelora.studies.plan import Study, StudyTest, named
from stylelora.studies.report_read import Arm, Reading
from stylelora.studies.report_scale import one_scale, reference_of

LEVEL = 0.05  # at or below which an adjusted p-value decides
#: Measures whose value is 0 for the base, so that arms can be compared with it.
FROM_BASE = (STYLE_GAIN.name, ATTAINMENT.name, SKILL.name, CLIP_SCORE_CHANGE.name)


@dataclass(frozen=True)
class Difference:
    """How much higher the primary metric of one arm is than that of another.

    Attributes:
        this: the arm.
        first: the arm that it is compared with.
        test: the difference, this minus first, with its interval and p-value.
        paired: the training seeds of both are the same, so they are paired.
        p_equal: p-value of their being apart by the margin or more; None: no margin is stated.
        p_holm: `test`'s p-value adjusted over all differences of the study.
        p_equal_holm: likewise.
    """

    this: Arm
    first: Arm
    test: Comparison
    paired: bool
    p_equal: float | None
    p_holm: float = 1.0
    p_equal_holm: float | None = None

    @property
    def names(self) -> tuple[str, str, str]:
        """Return this arm and the first by the levels in which they differ, and the levels that both have."""
        this, first = self.this.levels, self.first.levels
        if not first:
            return self.this.label, self.first.label, ""
        other = [factor for factor in this if this[factor] != first[factor]]
        sides = [named({factor: levels[factor] for factor in other}) for levels in (this, first)]
        return *sides, named({factor: label for factor, label in this.items() if factor not in other})

    @property
    def differs(self) -> bool:
        """Return whether a difference is shown."""
        return self.p_holm <= LEVEL

    @property
    def is_equal(self) -> bool:
        """Return whether equality to within the margin is shown."""
        return self.p_equal_holm is not None and self.p_equal_holm <= LEVEL

    @property
    def verdict(self) -> str:
        """Return what is shown, in a word or two."""
        way = "higher" if self.test.difference.value > 0 else "lower"
        if self.differs:
            return f"{way}, but equal to within the margin" if self.is_equal else way
        return "equal to within the margin" if self.is_equal else "undecided"


@dataclass(frozen=True)
class Response:
    """The trend of the primary metric over the levels of an ordered factor, at one choice of all other levels.

    Attributes:
        others: the other levels.
        arms: in the order of the ordered factor.
        trend: of the means of all adapters.
        slope: least-squares change per level, through the arms' means, with its interval.
        p_holm: the trend's p-value adjusted over all responses.
    """

    others: dict[str, str]
    arms: list[Arm]
    trend: Trend
    slope: Estimate
    p_holm: float = 1.0


@dataclass(frozen=True)
class Sufficient:
    """The lowest level of an ordered factor that is as good as the last, at one choice of all other levels.

    Attributes:
        others: the other levels.
        factor: the ordered factor.
        last: its last level.
        level: the lowest level that, like all between, is shown to equal the last; None: not even the one before.
    """

    others: dict[str, str]
    factor: str
    last: str
    level: str | None


@dataclass(frozen=True)
class Outcome:
    """What a study has found.

    Attributes:
        primary: the primary metric; None: no arm has it.
        scale: the arm of each style whose attainment is 1; none where each test's own scale counts.
        differences: in the order of the study's comparisons.
        responses: for a study of a trend.
        sufficient: where levels of an ordered factor are compared with its last one, and a margin is stated.
        unmeasured: what was planned and could not be measured, and why.
    """

    primary: Quantity | None
    scale: list[Arm]
    differences: list[Difference]
    responses: list[Response]
    sufficient: list[Sufficient]
    unmeasured: list[str]


def outcome_of(study: Study, found: Reading) -> Outcome:
    """Carry out the comparisons that a study declares; attainments of its arms are put on one scale.

    What cannot be measured is not among the tests that Holm adjusts.
    """
    unmeasured: list[str] = []
    wanted = study.metric.startswith(ATTAINMENT.name)
    scale = one_scale(study, found, unmeasured if wanted else []) if study.several_scales else []
    for arm in found.arms:
        for quantity, one in [*arm.series.items()]:
            if not np.isfinite(one.values).all():
                del arm.series[quantity]
                unmeasured.append(f"{quantity} of {arm.label}: some pictures have no value")
    primary = next((one for arm in found.arms for one in arm.called(study.metric)), None)
    if primary is None:
        measures = sorted({quantity.measure for arm in found.arms for quantity in arm.series if not quantity.at})
        unmeasured.append(f"the primary metric {study.metric}; there are {', '.join(measures)}")
        return Outcome(None, scale, [], [], [], unmeasured)
    differences = _adjusted([*_differences(study, found, primary, unmeasured)])
    responses = [*_responses(study, found, primary, unmeasured)] if study.trend else []
    adjusted = holm({named(one.others): one.trend.p_value for one in responses})
    responses = [replace(one, p_holm=adjusted[named(one.others)]) for one in responses]
    return Outcome(primary, scale, differences, responses, [*_sufficient(study, found, differences)], unmeasured)


def repeated(outcome: Outcome) -> str:
    """Return the measure that is compared with the base here, so that endpoints of tests would say it twice, or ""."""
    return outcome.primary.measure if any(not one.first.levels for one in outcome.differences) else ""


def declared(
    study: Study, found: Reading, outcome: Outcome
) -> Iterator[tuple[StudyTest, Endpoint, Estimate | None, float | None]]:
    """Yield what the tests of runs that are tested together declare by themselves, each with its interval.

    Beside what a blend has above a coin flip stands what the base's pictures have, which show neither style. What the
    study itself compares with the base is not among them: it is one claim, and has one p-value.
    """
    for test in found.tests if study.together else ():
        measured = {(one.condition, one.quantity): one for one in read_metrics(test.folder)}
        for one in read_tests(test.folder):
            if one.quantity.measure != repeated(outcome):
                controls = [one.quantity._replace(measure=what.name) for what in (BOTH_SCORE_OF_BASE, COIN_FLIP)]
                base, coin = (measured.get((one.condition, control)) for control in controls)
                of_base = None
                if one.quantity.measure == BOTH_ABOVE_COIN_FLIP.name and base and coin:
                    of_base = base.value - coin.value
                yield test, one, measured.get((one.condition, one.quantity)), of_base


def is_ordered(study: Study, factor: str) -> bool:
    """Return whether the levels of a factor have an order: they were declared to, or are rising numbers."""
    if factor == study.trend:
        return True
    try:
        numbers = [float(label) for label in study.factors.get(factor, [])]
    except ValueError:
        return False
    return len(numbers) > 1 and numbers == sorted(numbers)


def means_by_seed(one: Series) -> list[float]:
    """Return the mean of each training seed; every prompt counts the same."""
    return crossed(one.values, one.train_seeds, one.units).table.mean(1).tolist()


def _pairs(study: Study, found: Reading, primary: Quantity) -> Iterator[tuple[Arm, dict[str, str] | None]]:
    """Yield each arm with the levels of the one that it is compared with; None: the base, if styles differ."""
    reference = reference_of(study)
    if not reference and len({arm.own(primary) for arm in found.arms} - {None}) > 1:
        for arm in found.arms:
            yield arm, None
    elif not reference:
        for first, this in itertools.combinations(found.arms, 2):
            yield this, first.levels
    for arm in found.arms if reference else ():
        if not arm.levels.items() >= reference.items():
            yield arm, {factor: (arm.levels | reference)[factor] for factor in arm.levels}


def _differences(study: Study, found: Reading, primary: Quantity, unmeasured: list[str]) -> Iterator[Difference]:
    arms = {tuple(arm.levels.items()): arm for arm in found.arms}
    for this, levels in _pairs(study, found, primary):
        first = _base_like(this) if levels is None else arms.get(tuple(levels.items()))
        if first is None:
            unmeasured.append(f"{this.label} minus {named(levels)}: the latter has no finished run")
            continue
        one, other = this.get(primary), first.get(primary)
        if one is None or other is None:
            lacking = (this if one is None else first).label
            unmeasured.append(f"{this.label} minus {first.label}: {lacking} has no {primary.measure}")
            continue
        paired = this.seeds == first.seeds
        p_equal = None if study.margin is None else equal(one, other, paired, study.margin)
        yield Difference(this, first, difference(one, other, paired), paired, p_equal)


def _base_like(arm: Arm) -> Arm:
    """Return the base as an arm with the same pictures and seeds, of which it has 0 of all that counts from it."""
    series = {key: replace(one, values=0 * one.values) for key, one in arm.series.items() if key.measure in FROM_BASE}
    return replace(arm, levels={}, series=series)


def _adjusted(found: list[Difference]) -> list[Difference]:
    """Return differences with p-values adjusted by Holm, and those of equality among themselves."""
    p_holm = holm({str(i): one.test.p_value for i, one in enumerate(found)})
    equal_holm = holm({str(i): one.p_equal for i, one in enumerate(found) if one.p_equal is not None})
    return [replace(one, p_holm=p_holm[str(i)], p_equal_holm=equal_holm.get(str(i))) for i, one in enumerate(found)]


def _responses(study: Study, found: Reading, primary: Quantity, unmeasured: list[str]) -> Iterator[Response]:
    """Yield the response at each choice of the other levels."""
    order, groups = study.factors[study.trend], {}
    for arm in found.arms:
        others = {factor: label for factor, label in arm.levels.items() if factor != study.trend}
        if arm.get(primary):
            groups.setdefault(tuple(others.items()), []).append(arm)
    for others, arms in groups.items():
        arms = sorted(arms, key=lambda arm: order.index(arm.levels[study.trend]))
        if len(arms) < 2:
            unmeasured.append(
                f"the trend over {study.trend}{' with ' * bool(others)}{named(dict(others))}: one level only"
            )
            continue
        tables = [crossed(*_rows(arm.get(primary))) for arm in arms]
        ranks = [order.index(arm.levels[study.trend]) for arm in arms]
        values = [(rank, mean) for rank, table in zip(ranks, tables, strict=True) for mean in table.table.mean(1)]
        centred = np.array(ranks) - np.mean(ranks)
        paired = all(arm.seeds == arms[0].seeds for arm in arms)
        slope = contrast(tables, (centred / (centred**2).sum()).tolist(), paired)
        slope = slope.interval(min(len(table.table) for table in tables))
        yield Response(dict(others), arms, trend(*zip(*values, strict=True)), slope)


def _sufficient(study: Study, found: Reading, differences: Sequence[Difference]) -> Iterator[Sufficient]:
    """Yield the lowest level that equals the last, where that is what all others are compared with."""
    reference = reference_of(study)
    if len(reference) != 1 or study.margin is None:
        return
    ((factor, last),) = reference.items()
    if not is_ordered(study, factor) or study.factors[factor][-1] != last:
        return
    groups: dict[str, list[Difference]] = {}
    for one in differences:
        groups.setdefault(one.names[2], []).append(one)
    for ones in groups.values():
        level, order = None, study.factors[factor]
        for one in sorted(ones, key=lambda one: -order.index(one.this.levels[factor])):
            if not one.is_equal:
                break
            level = one.this.levels[factor]
        yield Sufficient({key: at for key, at in ones[0].this.levels.items() if key != factor}, factor, last, level)


def _rows(one: Series) -> tuple[np.ndarray, list[int], list[str]]:
    return one.values, one.train_seeds, one.units
