"""What a finished training says to type next."""

import json
import shlex

import pytest
import torch
from safetensors.torch import save_file

from stylelora.runs.folder import adapter_file
from stylelora.runs.next_steps import next_steps


@pytest.mark.parametrize(
    ("base", "clip_skip", "options"),
    [
        ("mini", "1", []),
        ("my models/anime.safetensors", "2", ["--model.base", "my models/anime.safetensors", "--model.clip_skip", "2"]),
    ],
)
def test_predict_gets_the_base_and_the_clip_skip_of_the_training(base, clip_skip, options, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"epoch": 0, "step": 5, "metrics": []}))
    notes = {"trigger": "zqx", "base": base, "ss_clip_skip": clip_skip}
    save_file({"a": torch.zeros(1)}, adapter_file(tmp_path), metadata=notes)
    assert shlex.split(next_steps(tmp_path, base).split("measure")[1])[:5] == [
        "python", "cli.py", "test", "--model.adapters", f"[{adapter_file(tmp_path)}]"
    ]  # fmt: skip
    (line,) = (line for line in next_steps(tmp_path, base).splitlines() if "cli.py predict" in line)
    words = shlex.split(line)
    assert words[words.index("--model.adapters") + 2 :] == options
    assert ("ComfyUI" in next_steps(tmp_path, base)) == (base != "mini")
