"""What CONTRIBUTING says of adding things, done in a copy of the tree: in how many files, and does all else notice?"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylelora.lora.read import read_adapter
from stylelora.runs.folder import adapter_file
from tests.runs import ROOT, draw_pictures, run_cli

PACKAGES = ("stylelora", "callbacks", "datamodules", "lightning_modules", "configs")


@pytest.fixture
def copy(tmp_path):
    """Folder with the code, small; weights and pictures are links."""
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, tmp_path / name, copy_function=link_or_copy, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "cli.py", tmp_path)
    return tmp_path


def link_or_copy(source, target):
    if Path(source).suffix in (".py", ".html", ".json"):
        shutil.copy(source, target)
    else:
        Path(target).symlink_to(source)


def changed(copy):
    """Files of the copy that are new or other than in the tree."""
    files = (path for name in PACKAGES for path in (copy / name).rglob("*") if path.suffix != ".pyc" and path.is_file())
    names = [path.relative_to(copy) for path in files]
    return [
        name
        for name in names
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != (copy / name).read_bytes()
    ]


def run(copy, *words):
    """Run Python where the copy is what is imported."""
    words = [sys.executable, *map(str, words)]
    done = subprocess.run(words, cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


REDNESS = '''"""How red are pictures?"""

from __future__ import annotations

from torch import Tensor

from stylelora.metrics.measure import Measure

REDNESS = Measure("redness", "share of red in all light", higher_is_better=False)


def redness(images: Tensor) -> Tensor:
    """Return the share of each picture uint8 (B, 3, H, W), float32 (B,)."""
    light = images.float().sum((2, 3))
    return light[:, 0] / light.sum(1)
'''
MEASURING = """
import torch
from pathlib import Path
from PIL import Image
from stylelora.evaluation.measure_all import measure_all
from stylelora.evaluation.page import page
from stylelora.evaluation.pictures import MadePictures
from stylelora.evaluation.summary import summary

class Judge:
    name = "nobody"
    def encode_images(self, images):
        return torch.nn.functional.normalize(images.float().mean((2, 3)), dim=1)
    def encode_texts(self, texts):
        return torch.ones(len(texts), 3) / 3 ** 0.5

rows = []
for i in range(7):
    Image.new("RGB", (8, 8), (60 + i, 30, 30)).save(f"{i}.png")
    rows.append({"condition": "base", "trigger": True, "method": "sum", "strength": 1.0, "weights": [], "adapters": {},
                 "seed": 0, "content": f"thing {i}", "prompt": f"thing {i}", "file_name": f"{i}.png"})
found = measure_all(MadePictures.of_rows(rows, {}, Path()), [], [], [Judge()], [], [])
(metric,) = [one for one in found.metrics if one.quantity.measure == "redness"]
assert abs(metric.value - sum((60 + i) / (120 + i) for i in range(7)) / 7) < 1e-6
print(metric.as_record())
print([value for line in found.lines() for value in line["values"] if value["measure"] == "redness"])
print(page(found, [], "redness"))
"""


def test_a_measure_is_its_file_and_its_call(copy):
    (copy / "stylelora" / "metrics" / "redness.py").write_text(REDNESS)
    call = copy / "stylelora" / "evaluation" / "measure_content.py"
    text, anchor = call.read_text(), "        found.add_mean(one.name, CLIP_SCORE, content, judge.name)\n"
    assert anchor in text
    text = text.replace("import torch\n", "import torch\n\nfrom stylelora.metrics.redness import REDNESS, redness\n", 1)
    added = "        reds = torch.cat([redness(batch) for batch in one.batches()])\n"
    call.write_text(text.replace(anchor, anchor + added + "        found.add_mean(one.name, REDNESS, reds)\n"))
    said = run(copy, "-c", MEASURING)
    assert "'higher_is_better': False" in said
    assert said.count("'measure': 'redness'") == 1 + 7
    assert "share of red in all light" in said
    assert len(changed(copy)) <= 2


WAYS_TO_BLEND = {
    "stylelora/lora/compose.py": '''

@method("loudest")
def loudest(parts: Sequence[Part]) -> Factors:
    """Take the update of the largest share."""
    return max(parts, key=lambda part: part.share).update
''',
    "stylelora/diffusion/blend_while_sampling.py": '''

@method("loudest", own_prompts=True)
def loudest(given: Blending) -> Plan:
    """Let the adapter of the largest share predict."""
    first = max(range(len(given.shares)), key=lambda i: given.shares[i])
    return lambda _call: given.guided(first, given.prompts[first])
''',
}


def words(base, adapters, *more):
    return [
        "predict",
        "--model=lightning_modules.ComposedStyles",
        f"--model.init_args.base={base}",
        f"--model.init_args.adapters={json.dumps([str(file) for file in adapters])}",
        "--model.init_args.num_inference_steps=2",
        "--data=datamodules.Prompts",
        "--data.init_args.prompts=[a cat]",
        "--data.init_args.samples_per_prompt=1",
        "--trainer.logger=false",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        *more,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", WAYS_TO_BLEND)
def test_a_way_to_blend_is_one_file(copy, tiny_sd, adapter_files, tmp_path, file):
    (copy / file).write_text((copy / file).read_text() + WAYS_TO_BLEND[file])
    assert [path.as_posix() for path in changed(copy)] == [file]
    folder = tmp_path / "run"
    more = ("--model.init_args.methods=[sum, loudest]", "--model.init_args.weights=[[1, 0], [0.6, 0.4]]")
    run(
        copy,
        "-c",
        f"import cli\ncli.main({words(tiny_sd, adapter_files, *more, f'--trainer.default_root_dir={folder}')})",
    )
    rows = [json.loads(line) for line in (folder / "pictures.jsonl").read_text().splitlines()]
    base, whole, both, one, other = (np.asarray(Image.open(folder / row["file_name"])).astype(int) for row in rows)
    assert [row["method"] for row in rows] == ["sum", "sum", "sum", "loudest", "loudest"]
    assert np.abs(one - whole).max() <= 1  # one adapter is itself by every method
    assert np.abs(other - both).max() > 1
    assert np.abs(whole - base).max() > 1


def test_an_unknown_way_to_blend_is_refused_with_all_names(tiny_sd, adapter_files):
    code, said = run_cli(words(tiny_sd, adapter_files, "--model.init_args.methods=[linear]"))
    assert code != 0
    assert all(name in said for name in ("linear", "sum", "np_lora", "composite", "k_lora")), said


INK = '''"""Ink: black lines on white."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import {imported}


class Ink(StyleDataModule):
    """Pictures of your own."""

    style = {style}
'''


@pytest.mark.slow
def test_a_style_is_its_data_module_and_its_config(copy, tiny_sd, tmp_path):
    style = 'Style("ink", trigger="inkstyle", prompts=("a boat",), template="{text} by {trigger}")'
    (copy / "datamodules" / "ink.py").write_text(INK.format(imported="Style", style=style))
    text = (ROOT / "configs" / "train" / "mini" / "watercolor.yaml").read_text()
    assert text.count("datamodules.Watercolor") == 1
    text = text.replace("datamodules.Watercolor", "datamodules.ink.Ink")
    (copy / "configs" / "train" / "mini" / "ink.yaml").write_text(text)
    assert len(changed(copy)) <= 2
    run(
        copy, "cli.py", "fit", "--config=configs/train/mini/ink.yaml", f"--model.base={tiny_sd}",
        "--model.num_inference_steps=1",
        f"--data.root={draw_pictures(tmp_path / 'ink')}", "--data.batch_size=2", "--data.held_out=0.4",
        "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
        "--clip_score.scorer=null",
    )  # fmt: skip
    folder = copy / "runs" / "train" / "mini" / "ink"
    metadata = read_adapter(adapter_file(folder)).metadata
    assert (metadata["style"], metadata["trigger"]) == ("ink", "inkstyle")
    assert json.loads((folder / "result.json").read_text())["status"] == "success"


@pytest.mark.slow
def test_a_style_that_brings_its_pictures_is_known_to_preprocess(copy, tmp_path):
    embedded = copy / "stylelora" / "data" / "embedded"
    draw_pictures(embedded / "ink", count=24)
    (embedded / "ink.json").write_text('{"trigger": "inkstyle", "interpolation": "box", "licence": "CC0"}')
    (copy / "datamodules" / "ink.py").write_text(INK.format(imported="STYLES", style='STYLES["ink"]'))
    run(
        copy, "cli.py", "preprocess", "--source", embedded / "ink", "--style", "ink", "--output", tmp_path / "set",
        "--resolution", 32, "--strict", "false", "--workers", 1,
    )  # fmt: skip
    settings = json.loads((tmp_path / "set" / "census.json").read_text())["settings"]
    assert (settings["trigger"], settings["interpolation"]) == ("inkstyle", "box")
    found = run(copy, "-c", "from datamodules.ink import Ink; Ink().dataset.scan(); print(Ink().caption('a boat'))")
    assert found == "inkstyle, a boat\n"
