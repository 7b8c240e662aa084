"""What the desk draws: the bits of `predict`, once, and for whoever still waits."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylelora.base.same_base import hash_of_weights
from stylelora.desk.drawing import Desk, Superseded
from stylelora.desk.find_runs import DROPPED, STARTED, loras_of
from stylelora.desk.map_tab import places
from stylelora.desk.mix import Mix
from stylelora.desk.mix_tab import Wishes, keep
from stylelora.desk.sheet import NOTE, note_of, read_note, save_sheet
from stylelora.desk.take_away import write_config, write_lora
from stylelora.lora.lora_file import read_lora
from stylelora.lora.write import write_lora as write_lora_file
from stylelora.records import InputError
from tests.adapters import ATTENTION, write_adapter
from tests.runs import run_cli

pytest.importorskip("gradio")
MIX = Mix(("ink", "oil"), (0.6, 0.4), 3.0, 3, ("a cat", "a red boat"), (0, 7), "blurry")


@pytest.fixture
def desk(tiny_sd, adapter_files):
    desk = Desk(str(tiny_sd))
    for file in adapter_files:
        desk.offer(file, file.stem)
    return desk


@pytest.fixture
def tab(desk, tmp_path):
    """What `take_away` asks of its tab."""

    class Tab:
        def __init__(self):
            self.desk, self.places = desk, itertools.count()

        def folder(self):
            folder = tmp_path / f"taken-{next(self.places)}"
            folder.mkdir()
            return folder

    return Tab()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"method": "composite", "silent": ("oil",)},
        pytest.param({"method": "dare", "strength": 0.7}, marks=pytest.mark.slow),  # its draws are keyed by names
    ],
)
def test_the_config_that_is_taken_away_draws_the_same_bits(tab, tmp_path, change):
    mix = replace(MIX, **change)
    file = write_config(tab, mix)
    words = ["predict", f"--config={file}", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.logger=false"]
    code, said = run_cli([*words, "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"])
    assert code == 0, said
    for place, weights in enumerate(mix.columns()):
        for number, row in enumerate(tab.desk.draw(mix, weights)):
            with Image.open(tmp_path / "run" / "pictures" / f"{number:03d}-{place:02d}.png") as picture:
                assert np.array_equal(np.asarray(picture), row["image"].permute(1, 2, 0).numpy())


def test_a_picture_is_drawn_once_and_again_only_where_a_setting_changed(desk):
    calls = []
    desk.painter.unet.register_forward_hook(lambda *_: calls.append(1))

    def count(mix, weights):
        calls.clear()
        rows = desk.draw(mix, weights)
        return len(calls), rows

    asked, first = count(MIX, MIX.weights)
    assert asked == 4, "three steps of PNDM"
    again, second = count(MIX, MIX.weights)
    assert again == 0 and second is first
    watched = desk.painter.text_encoder.register_forward_hook(lambda *_: texts.append(1))
    texts = []
    assert count(replace(MIX, adapters=("ink",), weights=(0.3,)), (0.3,))[0] == 4 and texts, "its words are new"
    texts.clear()
    assert count(replace(MIX, adapters=("ink",), weights=(0.4,)), (0.4,))[0] == 4 and not texts, "they are known"
    watched.remove()
    assert count(replace(MIX, weights=(0.6, 0.45)), (0.6, 0.45))[0] == 4
    assert count(MIX, (0, 0))[0] == 4
    assert set(desk.remembered(replace(MIX, weights=(0.6, 0.45)), lambda: True)) == {(0, 0), (0.6, 0.45)}
    assert count(replace(MIX, adapters=("ink",), weights=(1.0,)), (0,))[0] == 0, "the base is the base"
    assert count(replace(MIX, silent=("ink",)), MIX.weights)[0] == 4
    assert count(replace(MIX, guidance_scale=2.0), (0, 0))[0] == 4


def test_who_moved_on_waits_no_longer_and_the_network_is_as_it_was(desk):
    before, calls = hash_of_weights(desk.painter.unet), []
    desk.painter.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Superseded):
        desk.draw(MIX, MIX.weights, lambda: len(calls) < 2)
    assert len(calls) == 2 and hash_of_weights(desk.painter.unet) == before
    with pytest.raises(Superseded):
        desk.draw(MIX, MIX.weights, lambda: False)
    assert len(calls) == 2
    assert len(desk.draw(MIX, MIX.weights)) == 4


def test_a_file_that_is_gone_or_never_was_gets_its_sentence(desk, adapter_files, tmp_path):
    copy = shutil.copy(adapter_files[0], tmp_path / "copy.safetensors")
    name = desk.offer(copy, "copy")
    mix = replace(MIX, adapters=(name,), weights=(1.0,))
    kept = desk.draw(mix, (1.0,))
    copy.unlink()
    with pytest.raises(InputError, match=r"copy\.safetensors is gone; put it back"):
        desk.draw(mix, (1.0,))
    with pytest.raises(InputError, match="nobody is not on the desk"):
        desk.draw(replace(mix, adapters=("nobody",)), (1.0,))
    shutil.copy(adapter_files[1], copy)
    assert not torch.equal(desk.draw(mix, (1.0,))[0]["image"], kept[0]["image"]), "another file of the same name"


def test_a_lora_of_another_base_or_no_lora_is_not_taken(desk, tmp_path, adapter_files):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad"):
        desk.check(tmp_path / "bad.safetensors")
    assert desk.check(adapter_files[0]) == "ink"
    assert desk.offer(adapter_files[0], "ink") == "ink"
    assert desk.offer(tmp_path / "bad.safetensors", "ink") == "ink (2)"


def test_a_dropped_file_is_kept_once_and_called_the_same_after_a_new_start(desk, adapter_files, tmp_path):
    runs, (ink, oil) = tmp_path / "runs", adapter_files
    home = runs / DROPPED
    for content, dropped, name in (
        (ink, "ink", "ink"),  # it is on the shelf already
        (oil, "ink", "ink-2"),
        (ink, "wash", "wash"),
        (oil, "wash", "wash-2"),
        (oil, "wash", "wash-2"),
    ):
        found = keep(Path(shutil.copy(content, tmp_path / f"{dropped}.safetensors")), home, desk.shelf)
        assert found == (ink if name == "ink" else home / f"{name}.safetensors", name)
        assert found[0].read_bytes() == content.read_bytes() and desk.offer(*found) == name
    assert loras_of(runs) == {name: home / f"{name}.safetensors" for name in ("ink-2", "wash", "wash-2")}


def test_what_the_base_predicted_is_kept_of_the_last_settings_only(desk, monkeypatch):
    known = []
    pictures = desk.painter.pictures
    monkeypatch.setattr(desk.painter, "pictures", lambda *given: known.append(given[-1]) or pictures(*given))
    for scale, weights in ((3.0, (0, 0)), (3.0, (1, 0)), (2.0, (0, 0))):
        desk.draw(replace(MIX, guidance_scale=scale), weights)
    assert known[0] is known[1] and len(known[0]) == 1, "one for all columns"
    assert known[2] is not known[0] and len(known[2]) == 1


def test_scores_are_those_of_the_judge(tiny_sd, tiny_clip, desk):
    from stylelora.metrics.clip_score import clip_scores
    from stylelora.metrics.encoders import ClipEncoder

    rows = Desk(str(tiny_sd), str(tiny_clip)).draw(replace(MIX, adapters=(), weights=()), ())
    expected = clip_scores(
        ClipEncoder(str(tiny_clip)), torch.stack([row["image"] for row in rows]), ["a cat"] * 2 + ["a red boat"] * 2
    )
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist())
    assert desk.draw(MIX, (0, 0))[0]["score"] is None


def test_one_lora_is_what_merge_writes(tab, adapter_files, tmp_path):
    file, said = write_lora(tab, replace(MIX, strength=0.5), "kohya", 0)
    output = tmp_path / "cli" / "blend.safetensors"
    words = ["merge", "--adapters", *map(str, adapter_files), "--weights", "0.3", "0.2", "--output", str(output)]
    assert run_cli(words) == (0, "")
    assert file.read_bytes() == output.read_bytes() and "inkstyle, oilstyle" in said
    with pytest.raises(InputError, match="blends while it samples"):
        write_lora(tab, replace(MIX, method="switch"), "kohya", 0)
    with pytest.raises(InputError, match="write a highest rank"):
        write_lora(tab, replace(MIX, method="ties"), "kohya", 0)


def test_a_picture_knows_its_settings(desk, tmp_path):
    row = desk.draw(MIX, MIX.weights)[0]
    save_sheet(tmp_path / "a.png", [("a cat", [row["image"]])], ["blend"], note_of(MIX, desk), row)
    note = read_note(tmp_path / "a.png")
    assert Mix.of_record(note["mix"]) == MIX and note["base"] == desk.base
    assert note["sha256"] == {one.name: one.sha256 for one in desk.adapters(MIX)}
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "none.png").write_text("no picture")
    info = PngInfo()
    info.add_itxt(NOTE, json.dumps({"desk": note | {"sha256": []}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png", pnginfo=info)
    none = "no settings of the desk"
    for name, said in (("plain.png", none), ("odd.png", none), ("none.png", "is no picture")):
        with pytest.raises(InputError, match=said):
            read_note(tmp_path / name)


@pytest.mark.parametrize(("count", "pictures"), [(2, 5), (3, 15), (4, 25)])
def test_a_map_goes_from_corner_to_corner(count, pictures):
    rows = places(count, 5)
    cells = [one for row in rows for one in row]
    assert len(cells) == len(set(cells)) == pictures
    assert all(len(one) == count and sum(one) == pytest.approx(1) and min(one) >= 0 for one in cells)
    corners = {tuple(float(i == j) for j in range(count)) for i in range(count)}
    assert corners <= set(cells) and {rows[0][0], rows[0][-1], rows[-1][0], rows[-1][-1]} == corners
    with pytest.raises(InputError, match="two, three or four LoRAs"):
        places(5, 5)


def test_the_shelf_has_what_trainings_kept_and_visitors_dropped(tmp_path):
    for name in ("train/ink", "study/ink", "train/oil", "train/empty"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / STARTED).touch()
    for name in ("train/ink/ink", "study/ink/ink", "train/oil/oil", "train/oil/oil-last", f"{DROPPED}/wash"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.safetensors").touch()
    found = {name: str(file.relative_to(tmp_path)) for name, file in loras_of(tmp_path).items()}
    assert found == {
        "study/ink": "study/ink/ink.safetensors", "train/ink": "train/ink/ink.safetensors",
        "oil": "train/oil/oil.safetensors", "wash": f"{DROPPED}/wash.safetensors",
    }  # fmt: skip
    assert loras_of(tmp_path / "nowhere") == {}


def test_only_the_last_wish_of_a_visitor_is_wanted():
    wishes = Wishes()
    first, other, second = wishes.new("a"), wishes.new("b"), wishes.new("a")
    assert (first(), other(), second()) == (False, True, True)


def test_what_predict_would_warn_of_is_for_the_page(desk, tmp_path):
    assert desk.notes(MIX) == []
    layers = read_lora(write_adapter(Path(desk.base), tmp_path / "ours.safetensors", 2, 1.0, ATTENTION, 3)).layers
    write_lora_file(tmp_path / "foreign.safetensors", layers, {})
    desk.offer(tmp_path / "foreign.safetensors", "foreign")
    mix = replace(MIX, adapters=("foreign",), weights=(1.0,), prompts=("a (cat:1.4)", "b " * 80), guidance_scale=1.0)
    for _ in range(2):  # also where the file has been read before
        said = "\n".join(desk.notes(mix))
        for words in ("states no trigger word", "(cat:1.4)", "have more than 77 tokens", "'blurry' has no effect"):
            assert words in said
    with pytest.raises(InputError, match="must be a multiple of"):
        desk.draw(replace(MIX, prompts=("a cat --w 65",)), MIX.weights)


def test_every_method_says_in_a_few_words_what_it_does():
    from stylelora.desk.controls import sentence_of
    from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS
    from stylelora.lora.compose import METHODS

    said = {name: sentence_of(name) for name in (*METHODS, *SAMPLING_METHODS)}
    assert said["sum"] == "add the weighted updates" and said["switch"] == "use one adapter per step, in turn"
    assert all("\n" not in words and 10 < len(words) < 80 for words in said.values()) and len({*said.values()}) == len(
        said
    )
