"""The sentences of a report: what was measured, what was found, and what it does not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stylelora.evaluation.summary import p_said
from stylelora.metrics.clip_score import CLIP_SCORE, CLIP_SCORE_CHANGE
from stylelora.metrics.style import STYLE_GAIN
from stylelora.records import Estimate, Quantity
from stylelora.runs.notes import shared_name
from stylelora.studies.plan import Study, mixture, named
from stylelora.studies.report_design import Design, alike, flat
from stylelora.studies.report_measures import scales, spoken, units
from stylelora.studies.report_outcome import LEVEL, Difference, Outcome, Response, Sufficient, declared, repeated
from stylelora.studies.report_read import Arm, Reading

MOST = 8  # differences said one by one


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


def setting(study: Study, found: Reading, design: Design) -> str:
    """Return what was done, in a few sentences."""
    told, tested = design.facts, design.tested
    pictures = f" from {told['pictures trained on']} pictures" if "pictures trained on" in told else ""
    pictures += f" at {told['resolution, px']} px" if "resolution, px" in told else ""
    arms = f"arms that differ in {' and '.join(found.factors)}" if len(found.arms) > 1 else "arm"
    said = (
        f"{len(design.runs)} LoRAs of the {_plural('style', styles_of(found))} were trained on the "
        f"{_plural('base', map(_base_said, bases_of(study)))}{pictures}, in {len(found.arms)} {arms}, "
        f"with the {_plural('training seed', study.seeds)}."
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


def _plural(word: str, names: Iterable[object]) -> str:
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
    said += [
        f"In the test of {test.label}, {spoken(one.quantity)} of {mixture(one.condition)} is "
        f"{one.difference:.3f}{f' ({interval(estimate)})' * bool(estimate)}; {p_is(one.p_holm)}, adjusted over the "
        "endpoints of the test."
        for test, one, estimate in declared(study, found, outcome)
        if one.p_holm is not None and one.quantity.measure != outcome.primary.measure
    ]
    return [*said, *_cost_said(found, outcome)]


def method(study: Study, found: Reading, outcome: Outcome, design: Design) -> list[str]:
    """Return how pictures were made, and how intervals and p-values were computed."""
    start, rule = (design.kept.get(f"model.{name}") for name in ("start", "keep"))
    said = ["Prompts begin with the trigger words of the adapters that draw; the base gets them without."]
    if start and float(start):
        said.append(
            f"The base alone draws the first {float(start):.0%} of the sampling steps; at their timesteps skill is 0."
        )
    if rule:
        said.append(
            f"Of each training the adapter of one epoch is kept and tested, by the rule `{rule}` of model.keep."
            + " Its skill is measured on the same held-out pictures, so it is a little too good." * (rule != "last")
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
        f"All is measured on the {_plural('base', bases_of(study))} and the {_plural('style', styles_of(found))}: "
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
            f"With {_adapters(small[0])} adapters no trend can be shown: the smallest possible p-value is "
            f"{small[0].trend.least:.2g}."
        )
    if any(arm.called(STYLE_GAIN.name) and not arm.ceilings for arm in found.arms):
        said.append("What real pictures of the style would reach in style gain was not measured by these tests.")
    if found.excluded:
        said.append(f"{len(found.excluded)} of {len(study.runs)} runs are not counted; see what was left out.")
    others = ", apart from the tests' own endpoints, which are adjusted within each test" * bool(study.together)
    said.append(f"Only the primary metric is tested{others}. All other columns describe, and suggest what to ask next.")
    return said


def p_is(p_value: float) -> str:
    """Return a p-value as `p = 0.0123` or `p < 0.0001`."""
    said = p_said(p_value)
    return f"p < {said[1:]}" if said.startswith("<") else f"p = {said}"


def _are(number: int) -> str:
    return "none is" if number == 0 else "1 is" if number == 1 else f"{number} are"


def _adapters(one: Response) -> int:
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
        f"{said[0].upper()}{said[1:]} (Kendall's tau {one.trend.tau:.2f}, {_adapters(one)} adapters, "
        f"{p_is(one.trend.p_value)}{adjusted}); the change per level is {one.slope.value:.3f} "
        f"({interval(one.slope)})."
    )
    return said


def _sufficient_said(study: Study, one: Sufficient) -> str:
    where, last = f"With {named(one.others)}, " if one.others else "", f"{one.factor} {one.last}"
    if one.level is None:
        said = f"{where}no lower {one.factor} is shown to equal {last} to within {study.margin:g}."
    else:
        said = (
            f"{where}the lowest {one.factor} that is shown to equal {last} to within {study.margin:g}, as are all "
            f"between, is {one.level}."
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
