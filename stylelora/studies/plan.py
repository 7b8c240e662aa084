"""The plan of a study: a small YAML file, read into the runs that answer its question."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from stylelora.console.checks import meant
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from stylelora.texts import read_yaml, understood

STUDIES = Path("runs", "studies")
COMPARISONS = ("all", "against", "trend")
EXAMPLE = "configs/ablations/rank/study.yaml is an example"


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
    """

    runs: list[Run]
    config: Path
    folder: Path


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
        against: levels of the arms that others are compared with; an arm keeps its own levels of all other factors.
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
    def arms(self) -> list[dict[str, str]]:
        """Return each choice of levels, in order."""
        return [dict(zip(self.factors, labels, strict=True)) for labels in itertools.product(*self.factors.values())]

    @property
    def tests(self) -> list[StudyTest]:
        """Return the tests, each with its runs."""
        groups: dict[Path, list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.folder.parent if self.together else run.folder) / "test", []).append(run)
        return [StudyTest(runs, self.test, folder) for folder, runs in groups.items()]


def named(levels: Mapping[str, str]) -> str:
    """Return levels as a label, such as `size 16, kernel nearest`."""
    return ", ".join(f"{factor} {label}" for factor, label in levels.items())


def read_study(file: Path) -> Study:
    """Read a study's file.

    Raises:
        InputError: if it cannot be read as one, or names something that there is not.
    """
    found = read_yaml(file)
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no study; {EXAMPLE}")
    known = [one.name for one in fields(Study) if one.name not in ("file", "name", "runs", "against", "trend")]
    for name in found:
        if name not in (*known, "options"):
            raise InputError(f"{file} has {name!r}, which studies do not know{meant(str(name), known)}; {EXAMPLE}")
    if missing := [name for name in ("question", "base", "factors", "test") if not found.get(name)]:
        raise InputError(f"{file} has no {missing[0]}; {EXAMPLE}")
    with understood(str(file), EXAMPLE):
        return _read(file, found)


def _read(file: Path, found: dict[str, Any]) -> Study:
    levels = {factor: dict(options) for factor, options in map(_factor, *zip(*found["factors"].items(), strict=True))}
    factors = {factor: list(options) for factor, options in levels.items()}
    seeds, name, base = found.get("seeds", 1), _name(file), Path(found["base"])
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    together, margin = found.get("together", ""), found.get("margin")
    if together and together not in factors:
        raise InputError(f"together is {together}, which is no factor; choose from {', '.join(factors)}")
    if not seeds or len({*seeds}) < len(seeds):
        raise InputError(f"{file}: seeds are {found['seeds']}; give a number of seeds, or a list without repetitions")
    if margin is not None and not 0 < float(margin) < float("inf"):
        raise InputError(f"{file}: margin is {margin}; give a number above 0, in units of the metric")
    start, runs = read_yaml(base), []
    for option, value in (found.get("options") or {}).items():
        set_option(start, option, value)
    for *labels, seed in itertools.product(*factors.values(), seeds):
        own, config = dict(zip(factors, labels, strict=True)), copy.deepcopy(start)
        for factor, label in own.items():
            for option, value in levels[factor][label].items():
                set_option(config, option, value)
        config = {"seed_everything": seed} | {key: one for key, one in config.items() if key != "seed_everything"}
        words = [f"{factor}_{label}" for factor, label in own.items() if factor != together] + [f"seed_{seed}"]
        place = _as_file_name("_".join(words))
        place = f"{place}/{_as_file_name(own[together])}" if together else place
        folder = STUDIES / name / place
        runs.append(Run(own, seed, place, config, folder.parent / f"{folder.name}.yaml", folder))
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"{file}: two runs have the same name; label the levels of each factor differently")
    compare, against, trend = _comparison(file, found.get("compare", "all"), factors)
    texts = str(found["question"]), base, factors, Path(found["test"]), runs, list(found.get("hypotheses") or [])
    margin = None if margin is None else float(margin)
    return Study(
        file, name, *texts, seeds, together, str(found.get("metric", Study.metric)), compare, against, trend, margin
    )


def _factor(name: Any, levels: Any) -> tuple[str, Iterator[tuple[str, dict[str, Any]]]]:
    """Return a factor's name, and each of its labels with the options that it sets."""
    if "." not in name:  # several options that move together
        if bad := [label for label, options in levels.items() if not isinstance(options, dict) or not options]:
            raise InputError(
                f"level {bad[0]} of factor {name} sets no option; give options with their values, such as "
                "{model.rank: 4, model.alpha: 4}, or name the factor as an option, such as model.rank"
            )
        return name, ((label_of(label), options) for label, options in levels.items())
    labelled = levels.items() if isinstance(levels, dict) else ((value, value) for value in levels)
    return name.rsplit(".", 1)[1], ((label_of(label), {name: value}) for label, value in labelled)


def label_of(value: Any) -> str:
    """Return a value as the label of a level."""
    if isinstance(value, list):
        return "+".join(map(label_of, value))
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


def set_option(config: dict[str, Any], option: str, value: Any) -> None:
    """Set an option in the settings of a run, as `--model.optimizer.lr 1e-3` does on the command line.

    Args:
        config: settings; those of a class are in its `init_args`.
        option: name with dots.
        value: as a plain value.
    """
    place, *names = config, *option.split(".")
    for number, name in enumerate(names):
        if "class_path" in place and name not in ("class_path", "init_args"):
            place = place.setdefault("init_args", {})
        if number == len(names) - 1:
            place[name] = value
        elif not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]


def _comparison(file: Path, given: Any, factors: dict[str, list[str]]) -> tuple[str, dict[str, str], str]:
    """Return how arms are compared, the levels that others are compared with, and the factor that is ordered."""
    kind, of = next(iter(given.items())) if isinstance(given, dict) and len(given) == 1 else (given, None)
    if kind not in COMPARISONS or ((kind == "against") != (of is not None) and kind != "trend"):
        raise InputError(f"{file}: compare is {given}; give all, trend, or against: with a level")
    if len(factors) > 1 and kind != "all" and (of is None or (kind == "against" and not isinstance(of, dict))):
        raise InputError(f"{file}: compare is {given}, but there are {len(factors)} factors; name one of them, too")
    only = next(iter(factors))
    if kind == "against":
        against = {str(key): label_of(one) for key, one in (of if isinstance(of, dict) else {only: of}).items()}
        if bad := {key: one for key, one in against.items() if one not in factors.get(key, ())}:
            raise InputError(f"{file}: compare names {named(bad)}, which is none of the arms")
        return kind, against, ""
    if kind == "trend":
        if (of := str(of or only)) not in factors:
            raise InputError(f"{file}: compare names {of}, which is no factor; choose from {', '.join(factors)}")
        return kind, {}, of
    return kind, {}, ""


def _name(file: Path) -> str:
    """Return the name of a study: of its folder if it is called study.yaml, and then what follows in its own name."""
    stem = file.stem
    return file.resolve().parent.name + stem.removeprefix("study") if stem.startswith("study") else stem


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "-", text)
