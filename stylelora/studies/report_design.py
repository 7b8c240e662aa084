"""The design of a study: what was varied, what was kept, and everything that is needed to do it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stylelora.console.screens import options_of
from stylelora.metrics.skill import SKILL
from stylelora.runs.pictures import read_lines
from stylelora.runs.result import read_result
from stylelora.studies.plan import Run, Study, label_of
from stylelora.studies.report_read import Reading, read_notes

#: Note in a LoRA file -> what the report calls it.
NOTES = {
    "style": "style",
    "trigger": "trigger word",
    "base": "base",
    "base_weights": "hash of the base's weights",
    "train_count": "pictures trained on",
    "held_out_count": "pictures held out",
    "held_out": "hash of the held-out pictures",
    "licence": "licence of the pictures",
    "resolution": "resolution, px",
}
#: Beginning of options -> class whose docstring explains them.
DOCUMENTED = {
    "model.": "lightning_modules.StyleLoRA",
    "model.objective.": "stylelora.diffusion.objective.Objective",
    "model.lora.": "stylelora.lora.options.LoraOptions",
    "data.": "datamodules.StyleDataModule",
}
HASH = 16  # letters shown of a hash
#: Setting of a picture -> what the report calls it.
MADE = {"num_inference_steps": "sampling steps", "guidance_scale": "guidance scale", "scheduler": "sampler"}


@dataclass(frozen=True)
class Design:
    """What was varied, what was kept, and with what.

    Attributes:
        varied: factor, level, and the options that it sets.
        meanings: what the options mean that differ between runs, as far as they are documented.
        kept: option -> value of all that the runs' configs have in common.
        facts: what the LoRA files say of their training, where all say the same, else the range.
        tested: what the tests have in common.
        runs: label of each finished training -> what is particular to it.
        versions: program or package -> versions.
    """

    varied: list[tuple[str, str, str]]
    meanings: dict[str, str]
    kept: dict[str, str]
    facts: dict[str, str]
    tested: dict[str, str]
    runs: dict[str, dict[str, str]]
    versions: dict[str, str]


def design_of(study: Study, found: Reading) -> Design:
    """Gather the design from the study's configs, results and LoRA files."""
    options = [dict(flat(run.config)) for run in study.runs]
    done = [run for test in found.tests for run in test.runs]
    notes, results = [read_notes(run.adapter) for run in done], [read_result(run.folder) for run in done]
    facts = {
        said: _range([one.get(note, "")[: HASH if "hash" in said else None] for one in notes])
        for note, said in NOTES.items()
    }
    recipes = [_recipe(run, note, result) for run, note, result in zip(done, notes, results, strict=True)]
    facts |= {name: _range([one[name] for one in recipes]) for name in recipes[0]}
    runs = {
        run.label: {
            "kept epoch, from 0": str(result["epoch"]),
            "steps": note.get("ss_steps", ""),
            "pictures": note.get("train_count", ""),
            "hash of the weights": note.get("sshs_model_hash", "")[:HASH],
            "hash of the data": (result["dataset"] or "")[:HASH],
        }
        for run, note, result in zip(done, notes, results, strict=True)
    }
    tested = [read_result(test.folder) for test in found.tests]
    versions = [{"code": one["git"]} | one["versions"] for one in (*results, *tested)]
    return Design(
        _varied(study, options),
        _meanings(options),
        {
            name: written(value)
            for name, value in options[0].items()
            if name != "seed_everything" and all(name in one and one[name] == value for one in options)
        },
        {name: value for name, value in facts.items() if value},
        _tested(study, found),
        runs,
        {name: _range([one.get(name, "") for one in versions]) for name in versions[0]},
    )


def alike(found: Reading) -> list[list[str]]:
    """Return the labels of arms whose adapters have equal weights and whose every value is equal, group by group."""
    groups: dict[tuple, list[str]] = {}
    for arm in found.arms:
        weights = [read_notes(run.adapter).get("sshs_model_hash") for test in arm.tests for run in test.runs]
        values = {(quantity, one.values.tobytes()) for quantity, one in arm.series.items()}
        groups.setdefault((*weights, frozenset(values)), []).append(arm.label)
    return [labels for labels in groups.values() if len(labels) > 1]


def commands(study: Study, design: Design) -> list[str]:
    """Return the commands that repeat the study, from a clone of the code."""
    code = design.versions.get("code", "")
    known = code and code != "unknown" and "," not in code
    first = [f"git checkout {code.removesuffix('-dirty')}"] if known else []
    return [*first, "pip install -c constraints.txt -e '.[report]'", f"python cli.py study {study.file}"]


def single_commands(study: Study) -> list[str]:
    """Return the commands of single runs, after the study's own has written their configs."""
    found = [f"python cli.py fit --config {run.file} --trainer.default_root_dir {run.folder}" for run in study.runs]
    for test in study.tests:
        adapters = ", ".join(str(run.adapter) for run in test.runs)
        words = f"--config {test.config} --model.adapters '[{adapters}]' --trainer.default_root_dir {test.folder}"
        found.append(f"python cli.py test {words}")
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings one by one, with dots in their names; a class is the value of its own name."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and "class_path" in value:
            yield prefix + name, value["class_path"]
            value = value.get("init_args") or {}
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def written(value: Any) -> str:
    """Return an option's value as a command line takes it."""
    return f"[{', '.join(map(written, value))}]" if isinstance(value, list) else label_of(value)


def _recipe(run: Run, notes: dict[str, str], result: dict[str, Any]) -> dict[str, str]:
    """Return how a LoRA was trained, as its file and its run's config say; "" for what they do not say."""
    options = dict(flat(result.get("config") or run.config))
    schedule = [
        f"{name.rsplit('.', 1)[-1]} {label_of(value)}"
        for name, value in options.items()
        if name.startswith("model.lr_scheduler.") and value is not None
    ]
    steps, epochs = (int(notes.get(name) or 0) for name in ("ss_steps", "ss_epoch"))  # of the kept epoch
    return {
        "rank": notes.get("ss_network_dim", ""),
        "alpha": notes.get("ss_network_alpha", "").removesuffix(".0"),
        "layers with a LoRA": " ".join(options.get("model.target_modules") or []),
        "optimiser": notes.get("ss_optimizer", "").rsplit(".", 1)[-1],
        "learning rate": notes.get("ss_learning_rate", ""),
        "schedule": "; ".join(schedule),
        "batch size": notes.get("ss_total_batch_size", ""),
        "epochs": notes.get("ss_num_epochs", ""),
        "steps in all": str(steps * result["epochs"] // epochs) if epochs and result.get("epochs") else "",
    }


def _meanings(options: list[dict[str, Any]]) -> dict[str, str]:
    """Return the documented meanings of the options that differ between runs."""
    names = dict.fromkeys(name for one in options for name in one)
    differing = [name for name in names if any(one.get(name) != options[0].get(name) for one in options)]
    known = {one.name: one.text for start, kind in DOCUMENTED.items() for one in options_of(kind, start)}
    return {name: known[name] for name in differing if known.get(name)}


def _varied(study: Study, options: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the options that each level sets: those whose value is the same in all its runs, but not in all runs."""
    names = [name for name in dict.fromkeys(key for one in options for key in one) if name != "seed_everything"]
    rows = []
    for factor, labels in study.factors.items():
        of_level = {label: [one for run, one in zip(study.runs, options, strict=True) if run.levels[factor] == label]
                    for label in labels}  # fmt: skip
        values = {
            name: {label: {json.dumps(one.get(name, "default")) for one in ones} for label, ones in of_level.items()}
            for name in names
        }
        own = [
            name
            for name, found in values.items()
            if all(len(one) == 1 for one in found.values()) and len(set.union(*found.values())) > 1
        ]
        for label, ones in of_level.items():
            rows.append((factor, label, ", ".join(f"{name} {written(ones[0].get(name, 'default'))}" for name in own)))
    return rows


def _tested(study: Study, found: Reading) -> dict[str, str]:
    """Return what is common to the tests."""
    arm = found.arms[0]
    pictures = [one for quantity, one in arm.series.items() if quantity.judge is not None]
    said, file = {"config of the tests": str(study.test)}, arm.finished[0].settings.get("data.file")
    said |= {"file of the prompts": str(file)} if file else {}
    if pictures:
        own = pictures[0].by_run[0]
        prompts = {prompt for prompt, _ in own}
        said |= {"prompts": str(len(prompts)), "pictures of each prompt": f"{len(own) / len(prompts):g}"}
    skills = [one.get(key) for one in found.arms for key in one.called(SKILL.name)]
    if skills:
        said["held-out pictures for skill"] = _range([str(len(one.by_run[0])) for one in skills])
    said["hash of prompts and held-out pictures"] = arm.finished[0].dataset[:HASH]
    made = read_lines(arm.finished[0].folder / "pictures.jsonl")[-1]
    for name, what in MADE.items():
        if made.get(name) is not None:
            said[what] = label_of(made[name])
    return said


def _range(values: list[str]) -> str:
    """Return the one value that all have, or all values; numbers as a range."""
    known = list(dict.fromkeys(value for value in values if value))
    if len(known) > 2 and all(one.replace(".", "", 1).isdigit() for one in known):
        return f"{min(known, key=float)} to {max(known, key=float)}"
    return ", ".join(known)
