"""The rules of the layout, read from the syntax tree: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("stylelora", "lightning_modules", "datamodules", "callbacks")
#: In `stylelora` a part imports parts to its left; modules that are no part stand at the very left.
ORDER = (
    *("base", "data", "lora", "diffusion", "metrics", "runs"),
    *("migration", "preprocess", "evaluation", "studies", "desk", "pretraining"),
)
HEAVY = {"diffusers", "transformers", "peft", "lightning"}
LONGEST = 300
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(tree, at_load=True):
    """Yield (dotted name, whether it is imported when the file is loaded)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", at_load) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.body, []), at_load=False)
            yield from imports(ast.Module(node.orelse, []), at_load)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, at_load and not function)


def place(dotted):
    """Position in ORDER, -1 for what belongs to none."""
    part = dotted.split(".")[1]
    return ORDER.index(part) if part in ORDER else -1


def violations(file, source):
    """What a file may not import, as sentences; `file` is relative to the repository."""
    package = file.split("/")[0]
    here = place(file.removesuffix(".py").replace("/", "."))
    found = []
    for name, at_load in imports(ast.parse(source)):
        top = name.split(".")[0]
        if name.startswith("."):
            found.append(f"{name}: relative import")
        elif top == "cli" or (top in PACKAGES and top not in (package, "stylelora")):
            found.append(f"{name}: {package} does not know {top}")
        elif package == "stylelora" and top in ("lightning", "pytorch_lightning"):
            found.append(f"{name}: stylelora is plain PyTorch")
        elif package == "stylelora" and at_load and top in HEAVY:
            found.append(f"{name}: load it where it is used")
        elif package == top == "stylelora" and place(name + ".") > here:
            found.append(f"{name}: imports go to the left only")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_keeps_the_rules(path):
    source = path.read_text()
    assert violations(path.relative_to(ROOT).as_posix(), source) == []
    assert len(source.splitlines()) <= LONGEST


def test_every_package_was_read():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)
    assert {path.parent.name for path in FILES} >= set(ORDER)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("stylelora/data/a.py", "import lightning.pytorch as L"),
        ("stylelora/data/a.py", "def f():\n    from lightning import pytorch"),
        ("stylelora/data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lightning"),
        ("stylelora/data/a.py", "import diffusers"),
        ("stylelora/data/a.py", "try:\n    from transformers import CLIPModel\nexcept ImportError:\n    pass"),
        ("stylelora/data/a.py", "class A:\n    import peft"),
        ("stylelora/data/a.py", "def f():\n    from stylelora.lora.inject import inject_lora"),
        ("stylelora/data/a.py", "from stylelora import metrics"),
        ("stylelora/records.py", "import stylelora.base"),
        ("stylelora/base/load.py", "from callbacks import CLIPScore"),
        ("stylelora/base/load.py", "from .. import records"),
        ("callbacks/a.py", "from datamodules.base import StyleDataModule"),
        ("datamodules/a.py", "def f():\n    import lightning_modules"),
        ("lightning_modules/pretraining/a.py", "import callbacks.clip_score"),
        ("callbacks/a.py", "import cli"),
    ],
)
def test_the_checker_sees_what_is_forbidden(file, source):
    assert len(violations(file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("stylelora/data/a.py", "import torch\nfrom stylelora.base import load\nfrom stylelora.records import Metric"),
        ("stylelora/data/a.py", "from stylelora.data.scan import scan_folder\ndef f():\n    import diffusers"),
        ("stylelora/data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import diffusers"),
        ("stylelora/evaluation/a.py", "from stylelora.base.load import load_unet"),
        ("callbacks/a.py", "import lightning.pytorch as L\nfrom callbacks import x\nfrom stylelora.metrics import y"),
    ],
)
def test_the_checker_lets_pass_what_is_allowed(file, source):
    assert violations(file, source) == []


def test_the_entry_point_stays_short():
    assert len((ROOT / "cli.py").read_text().splitlines()) < 100


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, stylelora; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
