"""What CONTRIBUTING says of adding things, done in a copy of the tree: in how many files, and does all else notice?"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT

PACKAGES = ("stylelora", "callbacks", "datamodules", "lightning_modules")


@pytest.fixture
def copy(tmp_path):
    """Folder with the code, small; weights and pictures are links."""
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, tmp_path / name, copy_function=link_or_copy, ignore=shutil.ignore_patterns("__pycache__")
        )
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


def run(copy, program):
    """Run a program where the copy is what is imported."""
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, timeout=300)
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
from stylelora.evaluation.measure import measure
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
found = measure(MadePictures.of_rows(rows, {}, Path()), [], [], [Judge()], [], [])
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
    said = run(copy, MEASURING)
    assert "'higher_is_better': False" in said
    assert said.count("'measure': 'redness'") == 1 + 7
    assert "share of red in all light" in said
    assert len(changed(copy)) <= 2
