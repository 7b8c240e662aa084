"""The outcome of a study: means of the arms, differences between them, and trends, all of them planned in its file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylelora.evaluation.compare import is_called, is_of
from stylelora.evaluation.finished import Series, joined
from stylelora.evaluation.sides import difference, equal
from stylelora.evaluation.summary import cell
from stylelora.metrics.attainment import ATTAINMENT, attainment, calibrate
from stylelora.metrics.comparison import Comparison, holm
from stylelora.metrics.contrast import contrast
from stylelora.metrics.nested import crossed
from stylelora.metrics.style import STYLE
from stylelora.metrics.trend import Trend, trend
from stylelora.records import Estimate, Quantity
from stylelora.runs.pictures import BASE
from stylelora.studies.plan import Study, named
from stylelora.studies.report_read import Arm, Reading

LEVEL = 0.05  # below which an adjusted p-value decides


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
        other = [factor for factor in this if this[factor] != first[factor]]
        both = {factor: label for factor, label in this.items() if factor not in other}
        return (
            named({factor: this[factor] for factor in other}),
            named({factor: first[factor] for factor in other}),
            named(both),
        )

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
        sufficient: the lowest level that, like all above it, is shown to equal the last; None: not even the one before.
    """

    others: dict[str, str]
    arms: list[Arm]
    trend: Trend
    slope: Estimate
    p_holm: float = 1.0
    sufficient: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a study has found.

    Attributes:
        primary: the primary metric; None: no arm has it.
        scale: the arm whose attainment is 1; None: attainment is not on a scale of one arm.
        differences: in the order of the study's comparisons.
        responses: for a study of a trend.
        unmeasured: what was planned and could not be measured, and why.
    """

    primary: Quantity | None
    scale: Arm | None
    differences: list[Difference]
    responses: list[Response]
    unmeasured: list[str]


def outcome_of(study: Study, found: Reading) -> Outcome:
    """Carry out the comparisons that a study declares; attainments of its arms are put on one scale.

    What cannot be measured is not among the tests that Holm adjusts.
    """
    unmeasured: list[str] = []
    scale = None if study.together else _one_scale(study, found, unmeasured)
    for arm in found.arms:
        for quantity, one in [*arm.series.items()]:
            if not np.isfinite(one.values).all():
                del arm.series[quantity]
                unmeasured.append(f"{quantity} of {arm.label}: some pictures have no value")
    named_so = [
        quantity
        for arm in found.arms
        for quantity in arm.series
        if is_called(quantity, study.metric) and is_of(quantity, arm.styles) and not quantity.at
    ]
    primary = named_so[0] if named_so else None
    if primary is None:
        measures = sorted({quantity.measure for arm in found.arms for quantity in arm.series if not quantity.at})
        unmeasured.append(f"the primary metric {study.metric}; there are {', '.join(measures)}")
        return Outcome(None, scale, [], [], unmeasured)
    differences = _adjusted([*_differences(study, found, primary, unmeasured)])
    responses = [*_responses(study, found, primary, differences, unmeasured)] if study.trend else []
    adjusted = holm({named(one.others): one.trend.p_value for one in responses})
    responses = [replace(one, p_holm=adjusted[named(one.others)]) for one in responses]
    return Outcome(primary, scale, differences, responses, unmeasured)


def reference_of(study: Study) -> dict[str, str]:
    """Return the levels of the arms that others are compared with; none if all pairs are compared."""
    return {study.trend: study.factors[study.trend][-1]} if study.trend else study.against


def means_by_seed(one: Series) -> list[float]:
    """Return the mean of each training seed; every prompt counts the same."""
    return crossed(one.values, one.train_seeds, one.units).table.mean(1).tolist()


def _one_scale(study: Study, found: Reading, unmeasured: list[str]) -> Arm | None:
    """Put the attainments of all arms on the scale of one arm, which is 1, instead of each adapter's own."""
    for arm in found.arms:
        for quantity in [one for one in arm.series if _is_attainment(one)]:
            del arm.series[quantity]
    reference = reference_of(study)
    scale = next((arm for arm in found.arms if arm.levels.items() >= reference.items()), None)
    if scale is None:
        unmeasured.append(f"attainment: {named(reference)}, which would be 1, has no finished run")
        return None
    base = joined([finished.conditions[BASE] for finished in scale.finished])
    for quantity in [one for one in scale.series if one.measure == STYLE.name and one.style in scale.styles]:
        line = calibrate(base[quantity].values, scale.series[quantity].values, scale.series[quantity].units)
        if not line.measurable:
            said = f"{scale.label}, which would be 1, is not clearly nearer to {quantity.style} than the base"
            unmeasured.append(f"attainment: {said}, by {cell(line.span)}, or the prompts are too few")
            continue
        for arm in found.arms:
            if quantity in arm.series:
                one = arm.series[quantity]
                values = attainment(one.values, line)
                arm.series[quantity._replace(measure=ATTAINMENT.name)] = replace(one, values=values)
    return scale if any(_is_attainment(quantity) for quantity in scale.series) else None


def _is_attainment(quantity: Quantity) -> bool:
    return quantity.measure == ATTAINMENT.name


def _pairs(study: Study, arms: Sequence[Arm]) -> Iterator[tuple[Arm, dict[str, str]]]:
    """Yield each arm with the levels of the one that it is compared with."""
    reference = reference_of(study)
    if not reference:
        for first, this in itertools.combinations(arms, 2):
            yield this, first.levels
    for arm in arms if reference else ():
        if not arm.levels.items() >= reference.items():
            yield arm, arm.levels | reference


def _differences(study: Study, found: Reading, primary: Quantity, unmeasured: list[str]) -> Iterator[Difference]:
    arms = {tuple(arm.levels.items()): arm for arm in found.arms}
    for this, levels in _pairs(study, found.arms):
        first = arms.get(tuple(levels.items()))
        if first is None:
            unmeasured.append(f"{this.label} minus {named(levels)}: the latter has no finished run")
            continue
        if lacking := next((arm for arm in (this, first) if primary not in arm.series), None):
            unmeasured.append(f"{this.label} minus {first.label}: {lacking.label} has no {primary}")
            continue
        one, other, paired = this.series[primary], first.series[primary], this.seeds == first.seeds
        p_equal = None if study.margin is None else equal(one, other, paired, study.margin)
        yield Difference(this, first, difference(one, other, paired), paired, p_equal)


def _adjusted(found: list[Difference]) -> list[Difference]:
    """Return differences with p-values adjusted by Holm, and those of equality among themselves."""
    p_holm = holm({str(i): one.test.p_value for i, one in enumerate(found)})
    equal_holm = holm({str(i): one.p_equal for i, one in enumerate(found) if one.p_equal is not None})
    return [replace(one, p_holm=p_holm[str(i)], p_equal_holm=equal_holm.get(str(i))) for i, one in enumerate(found)]


def _responses(
    study: Study, found: Reading, primary: Quantity, differences: Sequence[Difference], unmeasured: list[str]
) -> Iterator[Response]:
    """Yield the response at each choice of the other levels."""
    order, groups = study.factors[study.trend], {}
    for arm in found.arms:
        others = {factor: label for factor, label in arm.levels.items() if factor != study.trend}
        if primary in arm.series:
            groups.setdefault(tuple(others.items()), []).append(arm)
    for others, arms in groups.items():
        arms = sorted(arms, key=lambda arm: order.index(arm.levels[study.trend]))
        if len(arms) < 2:
            unmeasured.append(
                f"the trend over {study.trend}{' with ' * bool(others)}{named(dict(others))}: one level only"
            )
            continue
        tables = [crossed(*_rows(arm.series[primary])) for arm in arms]
        ranks = [order.index(arm.levels[study.trend]) for arm in arms]
        values = [(rank, mean) for rank, table in zip(ranks, tables, strict=True) for mean in table.table.mean(1)]
        centred = np.array(ranks) - np.mean(ranks)
        paired = all(arm.seeds == arms[0].seeds for arm in arms)
        slope = contrast(tables, (centred / (centred**2).sum()).tolist(), paired)
        slope = slope.interval(min(len(table.table) for table in tables))
        yield Response(
            dict(others),
            arms,
            trend(*zip(*values, strict=True)),
            slope,
            sufficient=_sufficient(study, arms, differences),
        )


def _sufficient(study: Study, arms: Sequence[Arm], differences: Sequence[Difference]) -> str | None:
    """Return the lowest level that is shown to equal the last, as are all between."""
    lowest = None
    for arm in reversed(arms[:-1]):
        if not any(one.this is arm and one.first is arms[-1] and one.is_equal for one in differences):
            break
        lowest = arm.levels[study.trend]
    return lowest


def _rows(one: Series) -> tuple[np.ndarray, list[int], list[str]]:
    return one.values, one.train_seeds, one.units
