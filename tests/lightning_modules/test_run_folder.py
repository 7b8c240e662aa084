"""What a run leaves in its folder."""

import base64
import io
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from stylelora.runs import result
from stylelora.runs.folder import adapter_file
from stylelora.runs.kept import Kept, point
from tests.runs import fit_words, metrics_of, run_cli, same


@pytest.fixture(scope="module")
def run(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "styles" / "first"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2))[0] == 0
    return folder


def test_a_run_leaves_these_files(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if "tfevents" not in path.name}
    assert names == {
        "first.safetensors", "first-last.safetensors", "first.md", "first.preview.png", "checkpoints",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "clip_score.jsonl", "config.yaml", "hparams.yaml",
        "result.json", "samples",
        *(f"samples/{point(i, 5 * i + 5)}{rest}" for i in (0, 1) for rest in ("", ".png", "/000.png", "/001.png")),
    }  # fmt: skip
    assert len(list(run.glob("*tfevents*"))) == 1


def test_a_checkpoint_holds_the_adapter_only(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    names = set(checkpoint["state_dict"])
    adapter = load_file(adapter_file(run, "-last"))
    assert len(names) == len(adapter) - sum(name.endswith(".alpha") for name in adapter) > 0
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    weights = adapter_file(run, "-last").stat().st_size  # with two moments each, and the file that is kept
    assert (run / "checkpoints" / "last.ckpt").stat().st_size < 5 * weights


def test_adapters_say_what_they_are(run, tiny_sd):
    with safe_open(adapter_file(run), "pt") as file:
        metadata = file.metadata()
    said = json.dumps(metadata)
    for word in (tiny_sd.name, "wcstyle", "64"):
        assert word in said
    assert str(tiny_sd) not in said, "a path is of this machine"


def kept_epochs(folder):
    """Epochs of five steps: of the adapter, of the best checkpoint and what it says, and of the result."""
    with safe_open(adapter_file(folder), "pt") as file:
        adapter = int(file.metadata()["epoch"])
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    steps = best["global_step"] // 5 - 1
    return [adapter, steps, best["kept"]["epoch"], json.loads((folder / "result.json").read_text())["epoch"]]


@pytest.mark.slow
def test_adapter_checkpoint_and_result_are_of_the_epoch_that_one_rule_keeps(
    run, tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch
):
    (kept,) = set(kept_epochs(run))

    def other(self, epoch, step, *_):
        self.epoch, self.step = (epoch, step) if epoch != kept else (self.epoch, self.step)
        return self.step

    monkeypatch.setattr(Kept, "offer", other)
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "other", epochs=2))[0] == 0
    assert kept_epochs(tmp_path / "other") == [1 - kept] * 4
    for folder in (run, tmp_path / "other"):  # whichever is kept, a run goes on from its end
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 10


@pytest.mark.slow
def test_how_often_pictures_are_made_changes_no_bit_of_the_adapter(run, tiny_sd, tiny_clip, pictures, tmp_path):
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "seldom", epochs=2)
    assert run_cli([*words, f"--model.sample_every_n_epochs={10**9}"])[0] == 0
    assert [path.name for path in (tmp_path / "seldom" / "samples").glob("*.png")] == ["epoch=001-step=000010.png"]
    assert same(load_file(adapter_file(tmp_path / "seldom", "-last")), load_file(adapter_file(run, "-last")))


@pytest.mark.slow
def test_resuming_at_the_command_line_equals_the_straight_run(run, tiny_sd, tiny_clip, pictures, tmp_path):
    folder = tmp_path / "resumed"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=1))[0] == 0
    half = load_file(adapter_file(folder, "-last"))
    assert run_cli(["fit", f"--resume={folder}", "--trainer.max_epochs=2"])[0] == 0
    straight = load_file(adapter_file(run, "-last"))
    assert same(load_file(adapter_file(folder, "-last")), straight)
    assert not same(half, straight)
    for name in ("000.png", "001.png"):
        for epoch in ("epoch=000-step=000005", "epoch=001-step=000010"):
            assert (folder / "samples" / epoch / name).read_bytes() == (run / "samples" / epoch / name).read_bytes()
    assert (folder / "clip_score.jsonl").read_text() == (run / "clip_score.jsonl").read_text()
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_the_saved_config_gives_the_same_adapter(run, tmp_path):
    again = tmp_path / "again"
    shutil.copy(run / "config.yaml", tmp_path / "config.yaml")
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert run_cli(["fit", f"--config={tmp_path / 'config.yaml'}", f"--trainer.default_root_dir={again}"])[0] == 0
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    for which in ("", "-last"):
        assert same(load_file(adapter_file(again, which)), load_file(adapter_file(run, which)))


def test_the_result_says_what_the_run_came_to(run):
    record = json.loads((run / "result.json").read_text())
    assert record["status"] == "success"
    assert record["error"] is None
    assert record["epochs"] == 2
    assert record["seconds"] > 0
    assert record["peak_memory_bytes"]["host"] > 2**26
    assert set(record["versions"]) == {"python", *result.PACKAGES}
    assert record["config"] == yaml.safe_load((run / "config.yaml").read_text())
    assert record["config"]["model"]["init_args"]["rank"] == 4
    assert len(record["dataset"]) == 64
    metrics = metrics_of(run)
    assert set(metrics) == {"skill", "clip_score[tiny]", "base: clip_score[tiny]"}
    for metric in metrics.values():
        assert metric["ci_low"] <= metric["value"] <= metric["ci_high"]
        assert metric["higher_is_better"] is True
    assert metrics["skill"]["n"] == 3  # held-out pictures
    assert metrics["clip_score[tiny]"]["n"] == 2  # prompts
    rows = [json.loads(line) for line in (run / "clip_score.jsonl").read_text().splitlines()]
    with safe_open(adapter_file(run), "pt") as file:  # the metrics are those of the adapter that was kept
        kept = file.metadata()
    assert (record["epoch"], record["step"]) == (int(kept["epoch"]), int(kept["ss_steps"]))
    assert metrics["skill"]["value"] == pytest.approx(float(kept["held_out_skill"]), abs=1e-6)
    scores = [row["score"] for row in rows if row["epoch"] == record["epoch"]]
    assert metrics["clip_score[tiny]"]["value"] == pytest.approx(np.mean(scores))


@pytest.mark.slow
def test_a_second_run_moves_the_first_aside(run, tiny_sd, tiny_clip, pictures, tmp_path):
    folder = shutil.copytree(run, tmp_path / "again")
    (folder / "adapter-old.safetensors").write_bytes(b"")
    status, said = run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=1))
    assert status == 0
    assert f"{folder} held an earlier run, which is now in {folder}.1" in said
    assert (tmp_path / "again.1" / "adapter-old.safetensors").exists()
    assert not (folder / "adapter-old.safetensors").exists()
    assert len(list(folder.glob("*tfevents*"))) == 1
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [point(0, 5), f"{point(0, 5)}.png"]
    assert {json.loads(line)["epoch"] for line in (folder / "clip_score.jsonl").read_text().splitlines()} == {0}
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1


@pytest.mark.slow
def test_a_run_ends_with_what_to_type_next(tiny_sd, tiny_clip, pictures, tmp_path, capfd):
    """And every logger of a list writes into its folder; nothing is said that helps nobody."""
    folder = tmp_path / "runs" / "mine"
    loggers = "[{class_path: CSVLogger}, {class_path: TensorBoardLogger, init_args: {name: board}}]"
    status, _ = run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, f"--trainer.logger={loggers}"))
    assert status == 0
    assert (folder / "csv" / "metrics.csv").is_file()
    assert len(list((folder / "board").rglob("*tfevents*"))) == 1
    said, noise = capfd.readouterr()
    lines = said.splitlines()
    for word, start in {
        "mine.safetensors": "adapter ", "samples/epoch=000-step=000005.png": "pictures ", "result.json": "result "
    }.items():  # fmt: skip
        assert (folder / word).is_file()
        assert [line for line in lines if line.startswith(start) and str(folder / word) in line], word
    assert "trigger word wcstyle" in said
    for command in (line.split("python ")[1] for line in lines if "python cli.py" in line):
        assert str(adapter_file(folder)) in command
    predict = next(line for line in lines if "cli.py predict" in line)
    words = shlex.split(predict.split("cli.py ")[1])
    more = [f"--trainer.default_root_dir={tmp_path / 'pictures'}", "--data.prompts=[a cat]"]
    more += ["--model.num_inference_steps=1", "--trainer.accelerator=cpu"]
    assert run_cli([*words, *more])[0] == 0
    assert (tmp_path / "pictures" / "grid.png").is_file()
    assert "available: False" not in noise and "Tip:" not in noise


@pytest.mark.slow
@pytest.mark.parametrize("value", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_logging_can_be_turned_off_and_left_to_lightning(value, tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "runs" / "x", f"--trainer.logger={value}")
    assert run_cli(words)[0] == 0
    assert bool(list((tmp_path / "runs" / "x").rglob("*tfevents*"))) == (value == "true")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_missing_judge_is_found_before_pictures_are_encoded(tiny_sd, pictures, tmp_path):
    status, said = run_cli(fit_words(tiny_sd, "no/judge", pictures, tmp_path / "runs" / "x"))
    assert status == 1
    assert "no/judge" in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []  # no cache, no folder


@pytest.mark.slow
def test_validating_a_checkpoint_measures_what_training_did(run, tiny_sd, tiny_clip, pictures, tmp_path):
    """The last checkpoint gives the pictures of the last epoch, and the run's own files stay."""
    folder = shutil.copytree(run, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = fit_words(tiny_sd, tiny_clip, pictures, folder)
    words = ["validate", *words[1:], f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]
    assert run_cli([word for word in words if "max_epochs" not in word])[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    made = {path.name: path.read_bytes() for path in (folder / "validate" / "samples").rglob("00?.png")}
    assert made == {path.name: path.read_bytes() for path in (run / "samples" / point(1, 10)).iterdir()}


# What other programs show of the adapter: notes in the header, a preview, a model card.


@pytest.fixture(scope="module")
def notes(run):
    with safe_open(adapter_file(run), "pt") as file:
        return file.metadata()


def test_the_header_says_what_kohyas_does(run, notes, tiny_sd):
    said = {key: value for key, value in notes.items() if key.startswith("ss_")}
    assert said.pop("ss_sd_model_name") == tiny_sd.name
    assert said.pop("ss_base_model_version") == tiny_sd.name  # its text embeddings are neither SD 1's nor SD 2's
    assert json.loads(said.pop("ss_bucket_info")) == {"buckets": {"0": {"resolution": [64, 64], "count": 10}}}
    tags = json.loads(said.pop("ss_tag_frequency"))
    (counted,) = tags.values()
    assert counted.pop("wcstyle") == 5
    assert sum(counted.values()) == 5
    assert all(tag.startswith("a thing with number ") for tag in counted)
    (folder,) = json.loads(said.pop("ss_dataset_dirs")).values()
    assert folder == {"n_repeats": 2, "img_count": 5}
    assert said == {
        "ss_output_name": "first", "ss_v2": "False", "ss_resolution": "(64, 64)", "ss_num_train_images": "10",
        "ss_num_epochs": "2", "ss_epoch": str(int(notes["epoch"]) + 1), "ss_learning_rate": "0.001",
        "ss_steps": str(5 * (int(notes["epoch"]) + 1)),
        "ss_unet_lr": "0.001", "ss_text_encoder_lr": "None", "ss_batch_size_per_device": "2",
        "ss_total_batch_size": "2", "ss_gradient_accumulation_steps": "1", "ss_seed": "0",
        "ss_optimizer": "torch.optim.adamw.AdamW", "ss_lr_scheduler": "constant",
        "ss_caption_dropout_rate": "0.1", "ss_caption_tag_dropout_rate": "0.0", "ss_shuffle_caption": "False",
        "ss_clip_skip": "1",
        "ss_enable_bucket": "False", "ss_network_module": "networks.lora", "ss_network_dim": "4",
        "ss_network_alpha": "4.0", "ss_min_snr_gamma": "None", "ss_noise_offset": "None", "ss_ip_noise_gamma": "None",
        "ss_multires_noise_iterations": "None", "ss_multires_noise_discount": "None", "ss_debiased_estimation": "False",
        "ss_loss_type": "l2", "ss_huber_schedule": "None", "ss_huber_c": "None", "ss_zero_terminal_snr": "False",
        "ss_masked_loss": "False", "ss_num_reg_images": "0", "ss_prior_loss_weight": "1.0",
    }  # fmt: skip
    assert notes["modelspec.trigger_phrase"] == notes["trigger"] == "wcstyle"
    assert (notes["modelspec.title"], notes["modelspec.resolution"]) == ("first", "64x64")
    assert notes["modelspec.architecture"].endswith("/lora")


def test_thumbnail_and_preview_are_the_kept_epochs_first_sample(run, notes):
    sample = Image.open(run / "samples" / point(int(notes["epoch"]), int(notes["ss_steps"])) / "000.png")
    preview = Image.open(run / "first.preview.png")
    assert np.array_equal(np.asarray(sample), np.asarray(preview))
    kind, content = notes["modelspec.thumbnail"].split(",")
    assert kind == "data:image/jpeg;base64"
    small = Image.open(io.BytesIO(base64.b64decode(content)))
    assert small.size == (64, 64)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(sample.convert("RGB"))).mean() < 15  # of noise
    assert notes["prompt"] == "wcstyle, a cat"


def test_the_card_says_what_how_and_how_well(run, notes):
    head, text = (run / "first.md").read_text().removeprefix("---\n").split("---\n", 1)
    head = yaml.safe_load(head)
    assert head["instance_prompt"] == "wcstyle"
    assert text.startswith("# first\n")
    assert head["widget"] == [{"text": "wcstyle, a cat", "output": {"url": "first.preview.png"}}]
    assert "base_model" not in head  # a folder of this machine says nothing to others
    skill = metrics_of(run)["skill"]
    assert f"| skill | {skill['value']:.3f} | {skill['ci_low']:.3f} to {skill['ci_high']:.3f} | 3 |" in text
    assert f"samples/{point(int(notes['epoch']), int(notes['ss_steps']))}.png" in text
    assert "licence: not stated" in text
    assert "| rank | 4 |" in text
