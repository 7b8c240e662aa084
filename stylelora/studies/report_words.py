"""The sentences of a report: what was done, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from stylelora.evaluation.summary import p_said
from stylelora.metrics.clip_score import CLIP_SCORE, CLIP_SCORE_CHANGE
from stylelora.records import Estimate
from stylelora.runs.notes import shared_name
from stylelora.studies.plan import Study, mixture, named
from stylelora.studies.report_design import Design, alike, flat
from stylelora.studies.report_measures import spoken
from stylelora.studies.report_outcome import LEVEL, Difference, Outcome, Response, Sufficient, declared, repeated
from stylelora.studies.report_read import Reading
from stylelora.studies.report_tables import range_said

MOST = 8  # differences said one by one
UNEQUAL = 2  # times as many steps are a difference to be warned of


def compared(study: Study, outcome: Outcome) -> str:
    """Return which comparisons were planned."""
    if study.trend:
        last = study.factors[study.trend][-1]
        return f"the trend over {study.trend}, and every other level of it with the last, {study.trend} {last}"
    if study.against:
        others = ", at the same levels of all other factors" * (len(study.factors) > len(study.against))
        return f"every arm with {named(study.against)}{others}"
    if any(not one.first.levels for one in outcome.differences):
        return "every arm with the base, since arms of different styles cannot be compared with one another"
    return "all pairs of arms"


def setting(study: Study, found: Reading, design: Design) -> str:
    """Return what was done, in a few sentences."""
    told, tested = design.facts, design.tested
    pictures = f" from {told['pictures trained on']} pictures" if "pictures trained on" in told else ""
    pictures += f", at a training resolution of {told['resolution, px']} px" if "resolution, px" in told else ""
    arms = f"arms that differ in {' and '.join(found.factors)}" if len(found.arms) > 1 else "arm"
    said = (
        f"{len(design.runs)} LoRAs of the {plural('style', styles_of(found))} were trained on the "
        f"{plural('base', map(_base_said, bases_of(study)))}{pictures}, in {len(found.arms)} {arms}, "
        f"with the {plural('training seed', study.seeds)}."
    )
    if "prompts" in tested:
        each = tested["pictures of each prompt"]
        said += f" Each arm drew {tested['prompts']} prompts, {each} picture{'s' * (each != '1')} of each"
        said += f", such as {', '.join(found.prompts[:3])}."
    if "held-out pictures for skill" in tested:
        said += (
            f" Skill is measured on {tested['held-out pictures for skill']} pictures that no adapter was trained on."
        )
    return said


def styles_of(found: Reading) -> list[str]:
    """Return the styles of all arms."""
    return list(dict.fromkeys(style for arm in found.arms for style in arm.styles))


def bases_of(study: Study) -> list[str]:
    """Return the bases that the runs start from."""
    return list(dict.fromkeys(shared_name(dict(flat(run.config)).get("model.base", "default")) for run in study.runs))


def _base_said(base: str) -> str:
    return "mini (the tiny Stable Diffusion for pictures of 64 px that comes with the code)" if base == "mini" else base


def plural(word: str, names: Iterable[object]) -> str:
    """Return a word and names, the word in the plural if there are several."""
    names = list(names)
    return f"{word}{'s' * (len(names) > 1)} {', '.join(map(str, names))}"


def answer(study: Study, found: Reading, outcome: Outcome) -> list[str]:
    """Return what was found, sentence by sentence."""
    if outcome.primary is None:
        return ["The primary metric could not be measured, so the question is not answered."]
    said = [_trend_said(study, outcome, one) for one in outcome.responses]
    shown = [one for one in outcome.differences if one.differs or one.is_equal]
    open_ = len(outcome.differences) - len(shown)
    if outcome.differences:
        different, same = sum(one.differs for one in shown), sum(one.is_equal for one in shown)
        equal = f", {_are(same)} shown to be equal to within {study.margin:g}" if study.margin else ""
        undecided = f", and {_are(open_)} undecided" if open_ else ""
        total = len(outcome.differences)
        said.append(
            f"Of {total} planned comparison{'s, whose p-values are adjusted together' * (total > 1)}, "
            f"{_are(different)} shown to differ{equal}{undecided}."
        )
    said += [
        f"Not told apart by this study: {', '.join(labels[:-1])} and {labels[-1]} ended, with every training seed, "
        "with adapters of equal weights."
        for labels in alike(found)
    ]
    said += [_sufficient_said(study, one) for one in outcome.sufficient]
    said += [_difference_said(study, outcome, one) for one in shown[:MOST]]
    if len(shown) > MOST:
        said.append(f"The table of differences has the other {len(shown) - MOST}.")
    endpoints = [
        f"In the test of {test.label}, {spoken(one.quantity)} of {mixture(one.condition)} is "
        f"{one.difference:.3f}{f' ({interval(estimate)})' * bool(estimate)}; {p_is(one.p_holm)}, adjusted over the "
        f"endpoints of the test{'' if of_base is None else f'; that of the pictures of the base is {of_base:.3f}'}."
        for test, one, estimate, of_base in declared(study, found, outcome)
        if one.p_holm is not None and one.quantity.measure != outcome.primary.measure
    ]
    if len(endpoints) > MOST:
        endpoints = [f"The tests themselves declare {len(endpoints)} endpoints; a table below has them."]
    said += endpoints
    return [*said, *_cost_said(found, outcome), *_steps_said(found)]


def p_is(p_value: float) -> str:
    """Return a p-value as `p = 0.0123` or `p < 0.0001`."""
    said = p_said(p_value)
    return f"p < {said[1:]}" if said.startswith("<") else f"p = {said}"


def _are(number: int) -> str:
    return "none is" if number == 0 else "1 is" if number == 1 else f"{number} are"


def adapters_of(one: Response) -> int:
    """Return the number of adapters behind a trend."""
    return sum(len(arm.seeds) for arm in one.arms)


def interval(estimate: Estimate) -> str:
    """Return an interval as text."""
    return f"{estimate.ci_low:.3f} to {estimate.ci_high:.3f}"


def endpoints_said(outcome: Outcome) -> str:
    """Return what the endpoints of the tests are, and over what their p-values are adjusted."""
    said = (
        "What each test declares by itself: an adapter is nearer to its style than the base, and a blend shows both "
        "styles more than a coin flip between its two adapters does. Adjusted by Holm over all endpoints of a test."
    )
    if measure := repeated(outcome):
        said += (
            f" Of these, {measure.replace('_', ' ')} is what the study itself compares with the base: it has its "
            "p-values among the differences, adjusted over those."
        )
    return said


def _cost_said(found: Reading, outcome: Outcome) -> Iterator[str]:
    """Yield what adapters cost the content, which is described only."""
    change = next((one for arm in found.arms for one in arm.called(CLIP_SCORE_CHANGE.name)), None)
    if change is None or outcome.primary.measure in (CLIP_SCORE.name, CLIP_SCORE_CHANGE.name):
        return
    means = {arm.label: mean for arm in found.arms if (mean := arm.mean(change))}
    shown, rest = list(means), ""
    if len(means) > MOST:
        shown = [pick(means, key=lambda label: means[label].value) for pick in (min, max)]
        rest = "; all others, in the table of arms, lie between"
    numbers = "; ".join(f"{means[label].value:+.3f} ({interval(means[label])}) with {label}" for label in shown)
    yield (
        f"What it costs the content, by the change of the CLIP score from the base's: {numbers}{rest}. This is "
        "secondary: it is not tested, and its intervals are not corrected for their number."
    )


def _steps_said(found: Reading) -> Iterator[str]:
    """Yield a warning if some arms' adapters were kept after a multiple of the steps of others."""
    arms = sorted((arm for arm in found.arms if arm.steps), key=lambda arm: np.mean(arm.steps))
    if arms and np.mean(arms[-1].steps) >= UNEQUAL * np.mean(arms[0].steps):
        least, most = (f"{range_said(arm.steps)} steps with {arm.label}" for arm in (arms[0], arms[-1]))
        yield (
            f"The adapters that were kept differ in how long they were trained, from {least} to {most}; the table of "
            "arms has all. So a difference between arms may be one of training length."
        )


def _trend_said(study: Study, outcome: Outcome, one: Response) -> str:
    where = f"With {named(one.others)}, " if one.others else ""
    metric, first, last = spoken(outcome.primary), *(one.arms[i].levels[study.trend] for i in (0, -1))
    way = "rises" if one.trend.tau > 0 else "falls"
    if one.p_holm <= LEVEL:
        said = f"{where}{metric} {way} along {study.trend} from {first} to {last}"
    else:
        said = f"{where}no monotone trend of {metric} along {study.trend} from {first} to {last} is shown"
    adjusted = f", {p_said(one.p_holm)} adjusted for {len(outcome.responses)} trends" * (len(outcome.responses) > 1)
    said = (
        f"{said[0].upper()}{said[1:]} (Kendall's tau {one.trend.tau:.2f}, {adapters_of(one)} adapters, "
        f"{p_is(one.trend.p_value)}{adjusted}); the change per level is {one.slope.value:.3f} "
        f"({interval(one.slope)})."
    )
    return said


def _sufficient_said(study: Study, one: Sufficient) -> str:
    where = f"With {named(one.others)}, " if one.others else ""
    if one.level is None:
        said = f"{where}no level of {one.factor} below {one.last} is shown to equal it to within {study.margin:g}."
    else:
        said = (
            f"{where}the lowest level of {one.factor} that is shown to equal {one.last} to within {study.margin:g}, as "
            f"are all between, is {one.level}."
        )
    return said[0].upper() + said[1:]


def _difference_said(study: Study, outcome: Outcome, one: Difference) -> str:
    metric, found, (this, first, both) = spoken(outcome.primary), one.test.difference, one.names
    way, ends = ("higher", (found.ci_low, found.ci_high))
    if found.value < 0:
        way, ends = ("lower", (-found.ci_high, -found.ci_low))
    said = f"With {both}, {metric}" if both else f"{metric[0].upper()}{metric[1:]}"
    than = f"of {first}" if one.first.levels else first
    said += (
        f" of {this} is {abs(found.value):.3f} ({ends[0]:.3f} to {ends[1]:.3f}) {way} than {than}; "
        f"adjusted {p_is(one.p_holm)}"
    )
    if not one.first.levels and (real := one.this.real(outcome.primary)):
        said += f"; real pictures of the style reach {real.value:.3f}"
    if one.is_equal:
        what = "but" if one.differs else "no difference is shown, and"
        said += f"; {what} the two are equal to within {study.margin:g} (adjusted {p_is(one.p_equal_holm)})"
    return said + "."
