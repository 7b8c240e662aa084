"""Read the values of each picture that a finished test measured."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.lora.read import BASE
from stylelora.metrics.nested import nested_interval
from stylelora.metrics.skill import SKILL, SKILL_AT_TIMESTEP
from stylelora.records import Estimate, InputError, Quantity
from stylelora.runs.pictures import read_lines
from stylelora.texts import read_object, understood


@dataclass(frozen=True)
class Series:
    """One value per picture of a condition, from one run or several runs one after the other.

    Attributes:
        pictures: (prompt, seed) of each generated picture, or (hash, 0) of each held-out one, (N,).
        values: float64 (N,).
        train_seeds: index of the run of each picture (N,).
    """

    pictures: list[tuple[str, int]]
    values: np.ndarray
    train_seeds: list[int]

    @property
    def units(self) -> list[str]:
        """Return the independent unit of each value: the picture's prompt, or the held-out picture itself."""
        return [unit for unit, _ in self.pictures]

    @property
    def by_run(self) -> list[list[tuple[str, int]]]:
        """Return the pictures of each run."""
        runs: dict[int, list[tuple[str, int]]] = {}
        for picture, run in zip(self.pictures, self.train_seeds, strict=True):
            runs.setdefault(run, []).append(picture)
        return list(runs.values())

    @functools.cached_property
    def mean(self) -> Estimate:
        """Return the mean with its interval, which covers training seeds, too, if there are several."""
        return nested_interval(self.values, self.train_seeds, self.units)


@dataclass(frozen=True)
class Finished:
    """A finished test.

    Attributes:
        folder: folder of the run.
        dataset: hash of its prompts and held-out pictures.
        settings: settings of model and data, flat: `model.steps` -> 12.
        adapters: hashes of the adapter files.
        recipes: name of a condition -> weights of its styles (none for the base) and blending method.
        conditions: name -> quantity -> series; the order of pictures is the same in all tests of them.
    """

    folder: Path
    dataset: str
    settings: dict[str, object]
    adapters: list[str]
    recipes: dict[str, tuple[dict[str, float], str]]
    conditions: dict[str, dict[Quantity, Series]]

    def condition(self, name: str | None) -> tuple[str, dict[Quantity, Series]]:
        """Return a condition and its name; None: the last one.

        Raises:
            InputError: if there is no such condition.
        """
        if name is not None and name not in self.conditions:
            raise InputError(f"{self.folder} has no condition {name!r}; it has {', '.join(self.conditions)}")
        name = list(self.conditions)[-1] if name is None else name
        return name, self.conditions[name]


def read_finished(folder: Path) -> Finished:
    """Read a finished test from its folder.

    Skill gets a value for each held-out picture, see `_skill`.

    Args:
        folder: folder of the run.

    Raises:
        InputError: if no finished test is there.
    """
    files = [folder / name for name in ("result.json", "values.jsonl", "losses.jsonl", "pictures.jsonl")]
    if missing := [file.name for file in files if not file.is_file()]:
        said = f"{folder} has no {', '.join(missing)} so it is not a finished test"
        raise InputError(f"{said}; give folders written by `python cli.py test`, or run the test again")
    with understood(f"what is in {folder}", "run the test again"):
        return _read(folder, read_object(files[0]), *map(read_lines, files[1:]))


def _read(folder: Path, result: dict, rows: list[dict], losses: list[dict], made: list[dict]) -> Finished:
    if result["status"] == "running":
        raise InputError(f"the test in {folder} is still running, or was killed; wait for it, or run it again")
    if result["status"] != "success":
        raise InputError(f"the test in {folder} ended as {result['status']}; run it again")
    if not rows or not made or "method" not in rows[0] or isinstance(rows[0]["values"], dict):
        raise InputError(f"the test in {folder} has no pictures, or is of an older version; run it again")
    conditions: dict[str, dict[Quantity, dict]] = {}
    for row in rows:
        own = conditions.setdefault(row["condition"], {})
        for value in row["values"]:
            own.setdefault(Quantity.of_record(value), {})[row["content"], row["seed"]] = value["value"]
    means: dict[tuple[str, str], dict] = {}
    for row in losses:
        means.setdefault((row["condition"], row["style"]), {})[row["sha256"], 0] = float(np.mean(row["losses"]))
    for (condition, style), own in means.items():
        if condition != BASE:
            conditions[condition][Quantity(SKILL.name, style=style)] = _skill(own, means[BASE, style])
    series = {
        condition: {quantity: _series(values) for quantity, values in own.items()}
        for condition, own in conditions.items()
    }
    recipes = {row["condition"]: (row["weights"], row["method"]) for row in rows}
    settings, adapters = dict(_settings(result["config"])), sorted(made[0]["adapters"].values())
    return Finished(folder, result["dataset"], settings, adapters, recipes, series)


def skill_by_timestep(folder: Path) -> dict[str, dict[Quantity, Series]]:
    """Return the skill of each condition of a finished test at each timestep of the bank."""
    losses: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in read_lines(folder / "losses.jsonl"):
        losses.setdefault((row["condition"], row["style"]), {})[row["sha256"]] = row["losses"]
    found: dict[str, dict[Quantity, Series]] = {}
    for (condition, style), own in losses.items():
        base = losses[BASE, style]
        for column, timestep in enumerate(BANK_TIMESTEPS if condition != BASE else ()):
            one, other = ({(key, 0): row[column] for key, row in rows.items()} for rows in (own, base))
            quantity = Quantity(SKILL_AT_TIMESTEP.name, style=style, at=(timestep,))
            found.setdefault(condition, {})[quantity] = _series(_skill(one, other))
    return found


def _skill(losses: dict[tuple[str, int], float], base: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    """Return skill, 1 - mean l / mean b of the losses l and the base's b, as a value for each held-out picture.

    It is skill + ((1 - skill) b_i - l_i) / mean b: the mean of these is the skill, and their spread is that of the
    ratio (delta method).
    """
    scale = np.mean(list(base.values()))
    rest = np.mean(list(losses.values())) / scale
    return {i: 1 - rest + (rest * base[i] - losses[i]) / scale for i in base}


def joined(runs: Sequence[dict[Quantity, Series]]) -> dict[Quantity, Series]:
    """Concatenate the values of several runs, for each quantity that all of them have."""
    return {
        quantity: Series(
            [picture for run in runs for picture in run[quantity].pictures],
            np.concatenate([run[quantity].values for run in runs]),
            [number for number, run in enumerate(runs) for _ in run[quantity].pictures],
        )
        for quantity in runs[0]
        if all(quantity in run for run in runs)
    }


def _series(values: dict[tuple[str, int], float]) -> Series:
    pictures = sorted(values)
    return Series(pictures, np.array([values[picture] for picture in pictures]), [0] * len(values))


def _settings(config: dict) -> Iterator[tuple[str, object]]:
    """Yield the settings of model and data one by one."""
    for part in ("model", "data"):
        for name, value in (config or {}).get(part, {}).get("init_args", {}).items():
            yield f"{part}.{name}", value
