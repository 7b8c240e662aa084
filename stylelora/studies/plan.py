"""The plan of a study: its question, and the runs that answer it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylelora.files import write
from stylelora.runs.folder import adapter_file

STUDIES = Path("runs", "studies")
#: Factors of arms that are conditions of one test.
CONDITIONS = ("method", "adapters")


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        levels: factor -> label of its level.
        seed: training seed.
        name: of its folder within the study's.
        config: its settings, complete, as plain values.
        file: where they are written, as a config of `fit`.
        folder: folder of the run.
    """

    levels: dict[str, str]
    seed: int
    name: str
    config: dict[str, Any]
    file: Path
    folder: Path

    @property
    def label(self) -> str:
        """Return what tells it from the others, such as `rank 16, seed 0`."""
        return f"{named(self.levels)}, seed {self.seed}"

    @property
    def adapter(self) -> Path:
        """Return where its adapter is."""
        return adapter_file(self.folder)


@dataclass(frozen=True)
class StudyTest:
    """One test of a study, of one run or of several that are tested together.

    Attributes:
        runs: whose adapters it tests, in this order.
        config: its config file.
        folder: its folder.
        levels: those that all its runs have.
    """

    runs: list[Run]
    config: Path
    folder: Path
    levels: dict[str, str]

    @property
    def label(self) -> str:
        """Return what tells it from the others, such as `rank 16, seed 0`."""
        return ", ".join(filter(None, [named(self.levels), f"seed {self.runs[0].seed}"]))


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it.

    Attributes:
        file: the study's file.
        name: of its folders in runs/studies/ and reports/.
        question: in one sentence.
        base: config that every run starts from.
        factors: factor -> labels of its levels, in order.
        test: config of its tests.
        runs: trainings, one for each choice of levels and each seed.
        hypotheses: what was expected before.
        seeds: training seeds.
        together: factor whose runs are tested in one test, as adapters in the order of its levels; "": each alone.
        metric: primary metric.
        compare: arms, which are choices of levels: `all` pairs; each `against` one of them; or their `trend`.
        against: levels of the arms that others are compared with; an arm keeps its own levels of all other factors. Of
            runs that are tested together, a level may be a condition of the test, such as `method: sum`.
        trend: ordered factor.
        margin: largest difference of the primary metric that does not matter; None: not stated.
    """

    file: Path
    name: str
    question: str
    base: Path
    factors: dict[str, list[str]]
    test: Path
    runs: list[Run]
    hypotheses: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    together: str = ""
    metric: str = "attainment"
    compare: str = "all"
    against: dict[str, str] = field(default_factory=dict)
    trend: str = ""
    margin: float | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of all runs."""
        return STUDIES / self.name

    @property
    def several_scales(self) -> bool:
        """Return whether arms that are compared are of several tests, whose attainments are on scales of their own."""
        return [*self.factors] != [self.together]

    @property
    def arms(self) -> list[dict[str, str]]:
        """Return each choice of levels, in order."""
        return [dict(zip(self.factors, labels, strict=True)) for labels in itertools.product(*self.factors.values())]

    @property
    def tests(self) -> list[StudyTest]:
        """Return the tests, each with its runs."""
        groups: dict[Path, list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.folder.parent if self.together else run.folder) / "test", []).append(run)
        found = []
        for folder, runs in groups.items():
            levels = {factor: label for factor, label in runs[0].levels.items() if factor != self.together}
            found.append(StudyTest(runs, self.test, folder, levels))
        return found


def named(levels: Mapping[str, str]) -> str:
    """Return levels as a label, such as `size 16, kernel nearest`, or `rank 4, the watercolor adapter`."""
    return ", ".join(
        mixture(label) if factor == CONDITIONS[1] else f"{factor} {label}" for factor, label in levels.items()
    )


def short(factor: str, label: str) -> str:
    """Return a level as it stands below the name of its factor, such as `16`; `watercolor`, of adapters."""
    return mixture(label).removeprefix("the ").removesuffix(" adapter") if factor == CONDITIONS[1] else label


def mixture(condition: str) -> str:
    """Return the name of a test's condition, such as `ink 0.6 + oil 0.4, composite`, in words."""
    weights, _, method = condition.partition(", ")
    parts = [part.rsplit(" ", 1) for part in weights.split(" + ")]
    if any(len(part) < 2 for part in parts):  # the base, or words
        return condition
    if len(parts) == 1:
        ((style, weight),) = parts
        return f"the {style} adapter" + f" at weight {weight}" * (weight != "1")
    blend = " and ".join(f"{weight} {style}" for style, weight in parts)
    return f"the blend of {blend}" + f", {method}" * bool(method)


def label_of(value: Any) -> str:
    """Return a value as the label of a level."""
    if isinstance(value, list):
        return "+".join(map(label_of, value))
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


def as_config(settings: dict[str, Any], said: str) -> str:
    """Return settings as the text of a config, with a comment."""
    import yaml

    return f"# {said}\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=110)}"


def write_configs(study: Study, folder: Path) -> list[Path]:
    """Write the config of each run into a folder, to look at it; return the files."""
    files = [folder / run.file.relative_to(study.folder) for run in study.runs]
    for run, file in zip(study.runs, files, strict=True):
        write(file, as_config(run.config, run.label))
    return files
