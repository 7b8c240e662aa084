"""The networks that judge, by name."""

import shutil

import pytest
import torch

from stylelora.evaluation.judges import load_judges
from stylelora.records import InputError


def load(content, distribution):
    names = {"content": content, "style": ["mini-style"], "distribution": distribution}
    return load_judges(names, None, torch.device("cpu"))


def test_a_judge_that_is_named_twice_judges_once(tiny_clip):
    judges = load([str(tiny_clip), str(tiny_clip)], [str(tiny_clip)])
    assert {role: [one.name for one in some] for role, some in judges.items()} == {
        "content": ["tiny"],
        "style": ["mini-style"],
        "distribution": ["tiny"],
    }


def test_two_judges_of_one_name_are_refused(tiny_clip, tmp_path):
    other = shutil.copytree(tiny_clip, tmp_path / tiny_clip.name)
    with pytest.raises(InputError, match="have the same name"):
        load([str(tiny_clip)], [str(other)])
