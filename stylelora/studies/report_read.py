"""Read the finished runs of a study, arm by arm; an arm is one choice of levels, with all its training seeds."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path

from stylelora.evaluation.compare import is_called, is_of
from stylelora.evaluation.finished import Finished, Series, joined, read_finished, skill_by_timestep
from stylelora.lora.read import BASE
from stylelora.metrics.attainment import ATTAINMENT
from stylelora.metrics.clip_score import CLIP_SCORE, CLIP_SCORE_CHANGE
from stylelora.metrics.style import STYLE, STYLE_GAIN, STYLE_GAIN_OF_REAL
from stylelora.records import Estimate, InputError, Quantity
from stylelora.runs.pictures import read_lines
from stylelora.runs.result import read_metrics, read_result
from stylelora.studies.plan import CONDITIONS, Study, StudyTest, named

Recipe = tuple[dict[str, float], str]


@dataclass
class Arm:
    """One choice of levels, with the tests of all its training seeds.

    Attributes:
        levels: factor -> label of its level. Where a test has several conditions, they are levels of one more factor.
        tests: a test per training seed.
        finished: what each of them measured.
        conditions: name of the arm's condition in each of them.
        series: quantity -> values of all of them.
        styles: its styles.
        ceilings: style gain -> that of real pictures, from the first test.
    """

    levels: dict[str, str]
    tests: list[StudyTest] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    series: dict[Quantity, Series] = field(default_factory=dict)
    styles: list[str] = field(default_factory=list)
    ceilings: dict[Quantity, Estimate] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return its levels as text; of no levels, the base."""
        return named(self.levels) or "the base"

    @property
    def seeds(self) -> list[int]:
        """Return its training seeds."""
        return [test.runs[0].seed for test in self.tests]

    @functools.cached_property
    def steps(self) -> list[int]:
        """Return the steps that its adapters were trained for until they were kept; none of tests of several."""
        runs = [run for test in self.tests for run in test.runs if len(test.runs) == 1]
        return [int(steps) for run in runs if (steps := read_notes(run.adapter).get("ss_steps"))]

    def called(self, name: str) -> list[Quantity]:
        """Return its quantities of its own styles that a name means; not those of a single timestep."""
        return [one for one in self.series if is_called(one, name) and is_of(one, self.styles) and not one.at]

    def own(self, quantity: Quantity) -> Quantity | None:
        """Return a quantity of another arm for this one's own style; None: it has none."""
        styles = [quantity.style] if quantity.style is None or quantity.style in self.styles else self.styles
        return next((one for style in styles if (one := quantity._replace(style=style)) in self.series), None)

    def get(self, quantity: Quantity) -> Series | None:
        """Return the values of `own`; None: it has none."""
        own = self.own(quantity)
        return None if own is None else self.series[own]

    def real(self, quantity: Quantity) -> Estimate | None:
        """Return what real pictures reach of the style gain that `own` gives; None: that is not known."""
        own = self.own(quantity)
        return None if own is None else self.ceilings.get(own)

    def mean(self, quantity: Quantity) -> Estimate | None:
        """Return the mean of `get`, or of real pictures; None: it has none."""
        if quantity.measure == STYLE_GAIN_OF_REAL.name:
            return self.real(quantity._replace(measure=STYLE_GAIN.name))
        one = self.get(quantity)
        return None if one is None else one.mean


@dataclass(frozen=True)
class Reading:
    """What is there of a study.

    Attributes:
        arms: those with at least one finished test.
        base: quantity -> values of the base, from the first test.
        excluded: label of a run -> why it is not counted.
        factors: factor -> labels of its levels, in order, as the arms have them.
    """

    arms: list[Arm]
    base: dict[Quantity, Series]
    excluded: dict[str, str]
    factors: dict[str, list[str]]

    @property
    def tests(self) -> list[StudyTest]:
        """Return the tests behind the arms, each once."""
        return list({test.folder: test for arm in self.arms for test in arm.tests}.values())

    @property
    def prompts(self) -> list[str]:
        """Return the prompts, in the order of the test."""
        return list(dict.fromkeys(row["content"] for row in read_lines(self.tests[0].folder / "values.jsonl")))


def read_arms(study: Study) -> Reading:
    """Read what the runs and tests of a study have left.

    Raises:
        InputError: if nothing is finished, or tests differ in prompts, seeds or held-out pictures.
    """
    excluded: dict[str, str] = {}
    done: list[tuple[StudyTest, Finished]] = []
    for test in study.tests:
        reasons = {run.label: why for run in test.runs if (why := why_not(run.folder, "training"))}
        if not reasons and (why := why_not(test.folder, "test")):
            reasons = {test.label: why}
        excluded |= reasons
        if not reasons:
            done.append((test, read_finished(test.folder)))
    if not done:
        why = "; ".join(f"{label}: {reason}" for label, reason in list(excluded.items())[:3])
        raise InputError(f"no run of {study.file} is finished, so there is nothing to report ({why})")
    arms = _arms(study, done)
    first = arms[0]
    for arm in arms:
        for quantity in arm.series.keys() & first.series.keys():
            pictures = first.series[quantity].by_run[0]
            if any(one != pictures for one in arm.series[quantity].by_run):
                raise InputError(
                    f"{arm.label} has other prompts or held-out pictures than {first.label}; test it again"
                )
    for test, _ in done:  # where runs are tested together, a seed's test may lack what the others have
        excluded |= {
            f"{arm.label}, {test.label}": f"its test has no {study.metric}"
            for arm in arms
            if test not in arm.tests and all(arm.levels.get(name) == one for name, one in test.levels.items())
        }
    factors = {factor: list(dict.fromkeys(arm.levels[factor] for arm in arms)) for factor in first.levels}
    for factor, labels in study.factors.items():  # in the study's order, not that of what is finished
        if factor in factors:
            factors[factor] = [label for label in labels if label in factors[factor]]
    return Reading(arms, done[0][1].conditions[BASE], excluded, factors)


def read_notes(adapter: Path) -> dict[str, str]:
    """Return the notes in a LoRA file; none if there is no file any more."""
    from safetensors import safe_open

    if not adapter.is_file():
        return {}
    with safe_open(adapter, "pt") as opened:
        return opened.metadata() or {}


def why_not(folder: Path, what: str) -> str | None:
    """Return why a run cannot be counted; None if it can."""
    result = read_result(folder)
    if not result:
        return f"{what}: not run"
    if result["status"] == "success":
        return None
    if result["status"] == "running":
        return f"{what} was killed, or is still running"
    error = (result.get("error") or "").strip().splitlines()
    return f"{what} {result['status']}" + (f": {error[-1]}" if error else "")


def _arms(study: Study, done: list[tuple[StudyTest, Finished]]) -> list[Arm]:
    """Return the arms: each choice of levels, times the conditions of a test if there are several of interest."""
    found = [(test, finished, _conditions(study, test, finished)) for test, finished in done]
    recipes: list[Recipe] = []
    for _, finished, conditions in found:
        recipes += [one for name in conditions if (one := finished.recipes[name]) not in recipes]
    varied, labels = _condition_levels(recipes)
    several = any(len(conditions) > 1 for _, _, conditions in found)
    arms: dict[tuple, Arm] = {}
    runs: dict[tuple, list[dict[Quantity, Series]]] = {}
    for test, finished, conditions in found:
        for condition, series in conditions.items():
            recipe = finished.recipes[condition]
            levels = dict(test.levels)
            levels |= {varied: labels[recipes.index(recipe)]} if several or not levels else {}
            key = tuple(levels.values())
            arm = arms.setdefault(key, Arm(levels, styles=list(recipe[0])))
            if test not in arm.tests:  # of two conditions of one recipe, the first counts
                arm.tests.append(test)
                arm.finished.append(finished)
                arm.conditions.append(condition)
                runs.setdefault(key, []).append(series)
    for key, arm in arms.items():
        arm.series = joined(runs[key])
        for metric in read_metrics(arm.tests[0].folder):
            if metric.quantity.measure == STYLE_GAIN_OF_REAL.name:
                arm.ceilings[metric.quantity._replace(measure=STYLE_GAIN.name)] = metric
    return list(arms.values())


def _conditions(study: Study, test: StudyTest, finished: Finished) -> dict[str, dict[Quantity, Series]]:
    """Return the conditions with adapters, and their values.

    Of runs that are tested together only those that have the primary metric, and of one style if it is about styles.
    """
    by_timestep, found = skill_by_timestep(test.folder), {}
    for name, (weights, _) in finished.recipes.items():
        if weights:
            own, base = dict(finished.conditions[name]), finished.conditions[BASE]
            for quantity, one in finished.conditions[name].items():
                change = {CLIP_SCORE.name: CLIP_SCORE_CHANGE, STYLE.name: STYLE_GAIN}.get(quantity.measure)
                if change and quantity in base and (quantity.style is None or quantity.style in weights):
                    from_base = replace(one, values=one.values - base[quantity].values)
                    own[quantity._replace(measure=change.name)] = from_base
            at_timesteps = by_timestep.get(name, {})
            found[name] = own | {key: one for key, one in at_timesteps.items() if key.style in weights}
    metric = study.metric
    if study.several_scales:  # a test has no attainment where its own adapter reaches nothing; its pictures have styles
        metric = metric.replace(ATTAINMENT.name, STYLE.name, 1)
    styles = {
        name: {one.style for one in own if is_called(one, metric) and is_of(one, [*finished.recipes[name][0]])}
        for name, own in found.items()
    }
    having = {name: own for name, own in found.items() if len(styles[name]) == 1}
    return having if study.together and having else found


def _condition_levels(recipes: list[Recipe]) -> tuple[str, list[str]]:
    """Return what conditions differ in, as a factor with a label for each."""
    weights = [" + ".join(f"{style} {weight:g}" for style, weight in recipe[0].items()) for recipe in recipes]
    if len(set(weights)) == 1:
        return CONDITIONS[0], [method for _, method in recipes]
    several = len({method for mixed, method in recipes if len(mixed) > 1}) > 1
    return CONDITIONS[1], [
        f"{text}, {method}" if several and len(mixed) > 1 else text
        for text, (mixed, method) in zip(weights, recipes, strict=True)
    ]
