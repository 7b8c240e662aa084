"""Read the finished runs of a study, arm by arm; an arm is one choice of levels, with all its training seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylelora.evaluation.finished import Finished, Series, joined, read_finished, skill_by_timestep
from stylelora.metrics.style import STYLE, STYLE_GAIN
from stylelora.records import InputError, Quantity
from stylelora.runs.pictures import BASE
from stylelora.studies.plan import Study, StudyTest, named

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
    """

    levels: dict[str, str]
    tests: list[StudyTest] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    series: dict[Quantity, Series] = field(default_factory=dict)
    styles: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Return its levels as text."""
        return named(self.levels)

    @property
    def seeds(self) -> list[int]:
        """Return its training seeds."""
        return [test.runs[0].seed for test in self.tests]


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
            reasons = {label_of_test(study, test): why}
        excluded |= reasons
        if not reasons:
            done.append((test, read_finished(test.folder)))
    if not done:
        why = "; ".join(f"{label}: {reason}" for label, reason in list(excluded.items())[:3])
        raise InputError(f"no run of {study.file} is finished, so there is nothing to report ({why})")
    arms = _arms(study, done)
    for arm in arms:
        arm.series = _joined(arm)
    first = arms[0]
    for arm in arms:
        for quantity in arm.series.keys() & first.series.keys():
            pictures = first.series[quantity].by_run[0]
            if any(one != pictures for one in arm.series[quantity].by_run):
                raise InputError(
                    f"{arm.label} has other prompts or held-out pictures than {first.label}; test it again"
                )
    factors = {factor: list(dict.fromkeys(arm.levels[factor] for arm in arms)) for factor in first.levels}
    for factor, labels in study.factors.items():  # in the study's order, not that of what is finished
        if factor in factors:
            factors[factor] = [label for label in labels if label in factors[factor]]
    return Reading(arms, done[0][1].conditions[BASE], excluded, factors)


def why_not(folder: Path, what: str) -> str | None:
    """Return why a run cannot be counted; None if it can."""
    file = folder / "result.json"
    if not file.is_file():
        return f"{what}: not run"
    result = read_result(folder)
    if result["status"] == "success":
        return None
    error = (result.get("error") or "").strip().splitlines()
    return f"{what} {result['status']}" + (f": {error[-1]}" if error else "")


def read_result(folder: Path) -> dict[str, Any]:
    """Return the record in a run's `result.json`."""
    return json.loads((folder / "result.json").read_text())


def label_of_test(study: Study, test: StudyTest) -> str:
    """Return what tells a test from the others, such as `rank 16, seed 0`."""
    run = test.runs[0]
    levels = {factor: label for factor, label in run.levels.items() if factor != study.together}
    return ", ".join(filter(None, [named(levels), f"seed {run.seed}"]))


def _arms(study: Study, done: list[tuple[StudyTest, Finished]]) -> list[Arm]:
    """Return the arms: each choice of levels, times the conditions of a test if there are several of interest."""
    recipes: list[Recipe] = []
    for _, finished in done:
        recipes += [recipe for recipe in _recipes(study, finished).values() if recipe not in recipes]
    varied, levels_of = _condition_levels(recipes)
    arms: dict[tuple, Arm] = {}
    for test, finished in done:
        for condition, recipe in _recipes(study, finished).items():
            levels = {factor: label for factor, label in test.runs[0].levels.items() if factor != study.together}
            levels |= {varied: levels_of[recipes.index(recipe)]} if len(recipes) > 1 or not levels else {}
            arm = arms.setdefault(tuple(levels.values()), Arm(levels))
            if test not in arm.tests:  # two conditions of one recipe: the first counts
                arm.tests.append(test)
                arm.finished.append(finished)
                arm.conditions.append(condition)
                arm.styles = list(recipe[0])
    return list(arms.values())


def _recipes(study: Study, finished: Finished) -> dict[str, Recipe]:
    """Return the conditions that are arms: with adapters; where several were tested together, only their blends."""
    found = {name: recipe for name, recipe in finished.recipes.items() if recipe[0]}
    blends = {name: recipe for name, recipe in found.items() if len(recipe[0]) > 1}
    return blends if study.together and blends else found


def _condition_levels(recipes: list[Recipe]) -> tuple[str, list[str]]:
    """Return what conditions differ in, as a factor with a label for each."""
    weights = [" + ".join(f"{style} {weight:g}" for style, weight in recipe[0].items()) for recipe in recipes]
    methods = [method for _, method in recipes]
    if len(set(weights)) == 1:
        return "method", methods
    if len(set(methods)) == 1:
        return "weights", weights
    return "condition", [", ".join(pair) for pair in zip(weights, methods, strict=True)]


def _joined(arm: Arm) -> dict[Quantity, Series]:
    """Return the values of all training seeds, with the gain on the base beside each similarity to a style."""
    runs = []
    for test, finished, name in zip(arm.tests, arm.finished, arm.conditions, strict=True):
        own, base = dict(finished.conditions[name]), finished.conditions[BASE]
        for quantity, one in finished.conditions[name].items():
            if quantity.measure == STYLE.name and quantity.style in arm.styles:
                gain = Series(one.pictures, one.values - base[quantity].values, one.train_seeds)
                own[quantity._replace(measure=STYLE_GAIN.name)] = gain
        runs.append(own | skill_by_timestep(test.folder).get(name, {}))
    return joined(runs)
