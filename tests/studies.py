"""Whole studies, as `study` leaves them, made up."""

import json
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from stylelora.records import Quantity
from stylelora.studies.reading import read_study
from stylelora.studies.report import content
from stylelora.studies.report_outcome import outcome_of
from stylelora.studies.report_read import read_arms
from tests.finished import write_finished

STYLE, SCORE = Quantity("style", "mini-style", "ink"), Quantity("clip_score", "mini")
RANK = """question: How large must the rank be?
hypotheses: [A rank of 16 is enough., "Rank 4 loses <content> & style."]
base: base.yaml
factors:
  rank:
    "4": {model.rank: 4, model.alpha: 4}
    "16": {model.rank: 16, model.alpha: 16}
    "64": {model.rank: 64, model.alpha: 64}
seeds: 3
test: test.yaml
compare: trend
margin: 0.1
"""
BASE = """model: {class_path: lightning_modules.StyleLoRA, init_args: {base: mini, rank: 16}}
data: {class_path: datamodules.Watercolor, init_args: {resolution: 64}}
trainer: {max_epochs: 4}
"""
GAINS = {"4": 0.1, "16": 0.299, "64": 0.3}
VERSIONS = {"git": "abc123", "versions": {"python": "3.11.7", "torch": "2.13.0"}}


def noise(*key, size=()):
    """Draws that depend on the key only."""
    return np.random.default_rng(zlib.crc32(repr(key).encode())).normal(size=size)


def write_study(folder, text=RANK, *, gain, seed_sd=0.003, prompts=20, pictures=False):
    """Write a study whose runs have all finished, and return it; the current folder must be `folder`.

    Args:
        gain: function of a run's levels: how much nearer to the style than the base its pictures are.
        seed_sd: by how much training seeds differ.
    """
    for name, written in (("study.yaml", text), ("base.yaml", BASE), ("test.yaml", "")):
        (folder / name).write_text(written)
    study = read_study(folder.relative_to(folder) / "study.yaml")
    for run in study.runs:
        write_run(run, gain(run.levels) + seed_sd * float(noise(run.label)), prompts, pictures)
    return study


def write_run(run, gain, prompts=20, pictures=False):
    """Write a finished training with its adapter and its test."""
    run.folder.mkdir(parents=True, exist_ok=True)
    notes = {"style": "ink", "train_count": "71", "held_out_count": "12", "base": "mini", "ss_steps": "68"}
    notes |= {"licence": "CC0-1.0", "sshs_model_hash": f"{zlib.crc32(run.label.encode()):016x}", "trigger": "inkstyle"}
    save_file({"a": torch.zeros(1)}, run.adapter, notes)
    result = {"status": "success", "error": None, "metrics": [], "epoch": 3, "seconds": 60.0, "dataset": "data"}
    (run.folder / "result.json").write_text(json.dumps(result | VERSIONS))
    wiggle = 0.01 * noise(run.label, "prompts", size=prompts)
    conditions = {
        "base": {STYLE: lambda i, j: 0.2 + 0.01 * (i % 3), SCORE: lambda i, j: 0.7},
        "ink 1": {
            STYLE: lambda i, j: 0.2 + 0.01 * (i % 3) + gain + float(wiggle[i]),
            SCORE: lambda i, j: 0.7 - 0.1 * gain + float(wiggle[i]),
        },
    }
    losses = {
        "base": lambda i: 0.1 + 0.01 * i,
        "ink 1": lambda i: (0.1 + 0.01 * i) * (0.9 - 0.3 * gain) + 0.001 * (i % 2),
    }
    test = write_finished(run.folder / "test", conditions, losses, prompts)
    result = json.loads((test / "result.json").read_text())
    (test / "result.json").write_text(json.dumps(result | VERSIONS))
    rows = [
        {
            **{"condition": condition, "trigger": True, "content": f"thing {i}", "file_name": f"{number}-{i}.png"},
            **{"adapters": {"ink": run.label}, "num_inference_steps": 12, "guidance_scale": 4.0},
        }
        for number, condition in enumerate(conditions)
        for i in range(prompts)
    ]
    (test / "pictures.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in rows if pictures else ():
        shade = int(255 * min(1, max(0, 0.2 + gain))) if row["condition"] != "base" else 60
        Image.new("RGB", (64, 64), (shade, 120, 255 - shade)).save(test / row["file_name"])


def by_rank(levels):
    return GAINS[levels["rank"]]


def values(run, quantity, condition="ink 1"):
    """Values of a run's pictures, read from its file."""
    rows = map(json.loads, (run.folder / "test" / "values.jsonl").read_text().splitlines())
    return np.array([
        one["value"] for row in rows if row["condition"] == condition
        for one in row["values"] if one["measure"] == quantity.measure
    ])  # fmt: skip


def table_of(study, quantity):
    """Level -> table of training seeds x prompts."""
    return {
        label: np.array([values(run, quantity) for run in study.runs if run.levels["rank"] == label])
        for label in study.factors["rank"]
    }


def said(study):
    """All that the report of a study says, without figures."""
    found = read_arms(study)
    return repr(content(study, found, outcome_of(study, found)))
