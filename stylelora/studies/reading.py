"""Read a study from its file, a YAML file of some twenty lines."""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from stylelora.console.checks import meant
from stylelora.records import InputError
from stylelora.studies.plan import CONDITIONS, STUDIES, Run, Study, label_of, named
from stylelora.texts import read_yaml, understood

COMPARISONS = ("all", "against", "trend")
EXAMPLE = "configs/ablations/rank/study.yaml is an example"


def read_study(file: Path) -> Study:
    """Read a study's file.

    Raises:
        InputError: if it cannot be read as one, or names something that there is not.
    """
    found = _fields(file)
    known = [one.name for one in fields(Study) if one.name not in ("file", "name", "runs", "against", "trend")]
    for name in found:
        if name not in (*known, "options"):
            raise InputError(f"{file} has {name!r}, which studies do not know{meant(str(name), known)}; {EXAMPLE}")
    if missing := [name for name in ("question", "base", "factors", "test") if not found.get(name)]:
        raise InputError(f"{file} has no {missing[0]}; {EXAMPLE}")
    with understood(str(file), EXAMPLE):
        return _read(file, found)


def _fields(file: Path, *before: Path) -> dict[str, Any]:
    """Return what a study's file holds, over what the one that it is `like` holds."""
    found = read_yaml(file)
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no study; {EXAMPLE}")
    like = found.pop("like", None)
    if file.resolve() in before:
        raise InputError(f"{file} is like itself, by way of what it is like; give another study as like")
    return found if like is None else _fields(file.parent / str(like), *before, file.resolve()) | found


def _read(file: Path, found: dict[str, Any]) -> Study:
    levels: dict[str, dict[str, dict[str, Any]]] = {}
    for given, options in found["factors"].items():
        factor, rows = _factor(given, options)
        if factor in levels:
            raise InputError(f"{file}: two factors are called {factor}; give one of them another name")
        if not rows:
            raise InputError(f"{file}: factor {factor} has no levels; give at least one")
        levels[factor] = dict(rows)
        if len(levels[factor]) < len(options):
            label = next(label for label, _ in rows if [one for one, _ in rows].count(label) > 1)
            raise InputError(f"{file}: two levels of factor {factor} are called {label}; give them other labels")
    factors = {factor: list(rows) for factor, rows in levels.items()}
    seeds, name, base = found.get("seeds", 1), _name(file), Path(found["base"])
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    together, margin = found.get("together", ""), found.get("margin")
    if together and together not in factors:
        raise InputError(f"together is {together}, which is no factor; choose from {', '.join(factors)}")
    if together and "test" in factors[together]:
        raise InputError(
            f"{file}: a level of {together} is called test, as the folder of the test; give it another label"
        )
    if not seeds or len({*seeds}) < len(seeds):
        raise InputError(f"{file}: seeds are {found['seeds']}; give a number of seeds, or a list without repetitions")
    if margin is not None and not 0 < float(margin) < float("inf"):
        raise InputError(f"{file}: margin is {margin}; give a number above 0, in units of the metric")
    start, runs = read_yaml(base), []
    read_yaml(Path(found["test"]))
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
    return Study(
        file,
        name,
        " ".join(str(found["question"]).split()),
        base,
        factors,
        Path(found["test"]),
        runs,
        list(found.get("hypotheses") or []),
        seeds,
        together,
        str(found.get("metric", Study.metric)),
        *_comparison(file, found.get("compare", "all"), factors, together),
        None if margin is None else float(margin),
    )


def _factor(name: Any, levels: Any) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return a factor's name, and each of its labels with the options that it sets."""
    if "." not in name:  # several options that move together
        bad = [label for label in levels if not isinstance(levels, dict) or not isinstance(levels[label], dict)]
        if bad:
            raise InputError(
                f"level {bad[0]} of factor {name} sets no option; give options with their values, such as "
                "{model.rank: 4, model.alpha: 4}, or name the factor as an option, such as model.rank"
            )
        return name, [(label_of(label), options) for label, options in levels.items()]
    labelled = levels.items() if isinstance(levels, dict) else ((value, value) for value in levels)
    return name.rsplit(".", 1)[1].replace("_", " "), [(label_of(label), {name: value}) for label, value in labelled]


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


def _comparison(
    file: Path, given: Any, factors: dict[str, list[str]], together: str
) -> tuple[str, dict[str, str], str]:
    """Return how arms are compared, the levels that others are compared with, and the factor that is ordered.

    The arms of runs that are tested together are the conditions of the test, which is known only when it has run.
    """
    kind, of = next(iter(given.items())) if isinstance(given, dict) and len(given) == 1 else (given, None)
    if kind not in COMPARISONS or ((kind == "against") != (of is not None) and kind != "trend"):
        raise InputError(f"{file}: compare is {given}; give all, trend, or against: with a level")
    factors = {factor: labels for factor, labels in factors.items() if factor != together}
    if len(factors) > 1 and kind != "all" and (of is None or (kind == "against" and not isinstance(of, dict))):
        raise InputError(f"{file}: compare is {given}, but there are {len(factors)} factors; name one of them, too")
    only = next(iter(factors), CONDITIONS[0])
    if kind == "against":
        against = {str(key): label_of(one) for key, one in (of if isinstance(of, dict) else {only: of}).items()}
        unknown = {key: one for key, one in against.items() if not (together and key in CONDITIONS)}
        if bad := {key: one for key, one in unknown.items() if one not in factors.get(key, ())}:
            raise InputError(f"{file}: compare names {named(bad)}, which is none of the arms")
        return kind, against, ""
    if kind == "trend":
        if (of := str(of or only)) not in factors:
            known = f"; choose from {', '.join(factors)}" if factors else ""
            raise InputError(f"{file}: compare names {of}, which is no factor of the arms{known}")
        return kind, {}, of
    return kind, {}, ""


def _name(file: Path) -> str:
    """Return the name of a study: of its folder if it is called study.yaml, and then what follows in its own name."""
    stem = file.stem
    return file.resolve().parent.name + stem.removeprefix("study") if stem.startswith("study") else stem


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "_", text)
