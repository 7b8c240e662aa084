"""The model card says what was trained with, and measures only what there is."""

import json

import torch

from stylelora.lora.factors import Layer
from stylelora.lora.write import write_lora
from stylelora.runs.card import write_card
from stylelora.runs.folder import adapter_file


def card(tmp_path, held_out="0", metrics=(), data=None, **settings):
    folder = tmp_path / "ink"
    notes = {"trigger": "zqx", "base": "mini", "epoch": "0", "ss_steps": "5", "ss_num_epochs": "1", "train_count": "9"}
    notes |= {"held_out_count": held_out, "resolution": "64", "ss_batch_size_per_device": "2", "licence": "MIT"}
    write_lora(adapter_file(folder), {"conv_in": Layer(torch.ones(1, 2), torch.ones(2, 1), 1.0)}, notes)
    config = {"model": {"init_args": {"rank": 4, **settings}}, "data": {"init_args": data or {}}}
    (folder / "result.json").write_text(json.dumps({"metrics": list(metrics), "config": config}))
    return write_card(folder).read_text()


def test_without_held_out_pictures_there_is_no_skill(tmp_path):
    of_one_prompt = {
        "condition": None, "measure": "clip_score", "judge": "mini", "style": None, "at": [], "value": 0.5,
        "ci_low": None, "ci_high": None, "n": 1, "higher_is_better": True,
    }  # fmt: skip
    text = card(tmp_path, metrics=[of_one_prompt])
    assert "No picture was left to measure skill with" in text and "0 pictures" not in text
    assert "| clip_score[mini] | 0.500 | unknown | 1 |" in text
    assert "predicts the 3 pictures" in card(tmp_path, held_out="3")


def test_what_is_unusual_is_listed_and_what_is_usual_is_not(tmp_path):
    usual = {"timestep_range": [0.0, 1.0], "loss": "mse", "min_snr_gamma": None}
    plain = card(tmp_path, objective=usual, lora={"rank_dropout": 0.0}, data={"masks": None, "prior": {"root": None}})
    assert not [name for name in ("objective", "lora", "masks", "prior") if f"| {name} |" in plain]
    text = card(
        tmp_path, objective=usual | {"min_snr_gamma": 5}, lora={"rank_dropout": 0.1},
        data={"masks": "alpha", "prior": {"root": "p", "prompt": None, "weight": 0.5}},
    )  # fmt: skip
    for row in ("objective | min_snr_gamma 5", "lora | rank_dropout 0.1", "masks | alpha", "prior | weight 0.5"):
        assert f"| {row} |" in text
