"""What the README tells people to type works: ```bash blocks are run, ```console ones (own data, a GPU) are parsed."""

import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(language):
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_console_commands_name_real_files_and_options():
    assert len(commands("console")) >= 3
    for command in commands("console"):
        words = shlex.split(command)
        assert words[:2] == ["python", "cli.py"]
        if words[2] in cli.FUNCTIONS:
            function = getattr(importlib.import_module(cli.FUNCTIONS[words[2]]), words[2])
            options = set(inspect.signature(function).parameters)
            assert {word[2:] for word in words if word.startswith("--")} <= options
        else:
            assert (ROOT / words[words.index("--config") + 1]).is_file()


def test_every_file_in_the_tree_exists():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, flags=re.S).group(1)
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / "stylelora" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


@pytest.mark.slow
def test_bash_and_python_blocks_run(tmp_path):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands("bash"):
        done = subprocess.run(command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    for name in ("config.yaml", "adapter.safetensors", "result.json", "samples"):
        assert (ROOT / "runs" / "quickstart" / name).exists()
    trained = ROOT / "runs" / "quickstart" / "adapter.safetensors"
    for style in ("watercolor", "cartoon"):
        (tmp_path / style).mkdir()
        shutil.copy(trained, tmp_path / style / "adapter.safetensors")
    programs = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(programs) == 2
    for program in programs:
        program = program.replace("runs/train/mini", str(tmp_path)).replace('.save("', f'.save("{tmp_path}/')
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "house.png").is_file()
    assert (tmp_path / "cat.png").is_file()
