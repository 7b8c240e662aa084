"""Loggers of every kind get pictures and outcomes, in the run's folder, and are whole after a resume."""

import csv
import json

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stylelora.metrics.skill import SKILL
from stylelora.records import Estimate
from stylelora.runs.loggers import log_outcome, log_picture, place_logger
from tests.runs import fit_words, metrics_of, run_cli


class Options(dict):
    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


class Service:
    """Stands in for WandbLogger."""

    def __init__(self):
        self.pictures, self.metrics = [], []

    def log_image(self, key, images, step=None):
        self.pictures.append((key, images, step))

    def log_hyperparams(self, params):
        raise AssertionError("it knows of no metrics there")

    def log_metrics(self, metrics, step=None):
        self.metrics.append((metrics, step))


def test_a_service_gets_pictures_and_the_outcome():
    service, picture = Service(), Image.new("RGB", (4, 4))
    log_picture(service, "samples", picture, 5)
    assert service.pictures == [("samples", [picture], 5)]
    log_outcome(service, {}, [SKILL.of(Estimate(0.5, 0.4, 0.6, 3))], 9)
    ((metrics, step),) = service.metrics
    assert step == 9 and list(metrics.values()) == [0.5] and next(iter(metrics)).startswith("kept/skill")


def test_tensorboard_gets_pictures_and_other_loggers_are_left_alone(tmp_path):
    picture = Image.new("RGB", (4, 6), (10, 20, 30))
    log_picture(CSVLogger(tmp_path), "samples", picture, 5)
    logger = TensorBoardLogger(tmp_path, name="", version="")
    log_picture(logger, "samples", picture, 5)
    logger.finalize("success")
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("samples")
    assert (image.step, image.width, image.height) == (5, 4, 6)


def test_a_resumed_run_goes_on_at_the_service(tmp_path):
    def placed(resumed, **more):
        options = Options(save_dir=".", name=None, version=None, id=None, project="styles") | more
        place_logger(options := Options(options), tmp_path / "ink", resumed)
        return options

    (tmp_path / "ink" / "wandb" / "offline-run-20260101_000000-abc123").mkdir(parents=True)
    assert (placed(True)["id"], placed(True)["name"]) == ("abc123", "ink")
    assert placed(False)["id"] is None
    assert placed(True, id="mine")["id"] == "mine"
    assert placed(True, name="first")["name"] == "first"
    assert placed(False)["save_dir"] == str(tmp_path / "ink")


LOGGERS = [
    {"class_path": f"lightning.pytorch.loggers.{kind}", "init_args": {"save_dir": "elsewhere"}}
    for kind in ("TensorBoardLogger", "CSVLogger")
]


@pytest.fixture(scope="module")
def runs(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    """A straight run with two loggers, and one that was resumed from its first epoch after it had gone on."""
    root = tmp_path_factory.mktemp("logged")
    words = [f"--trainer.logger={json.dumps(LOGGERS)}", "--trainer.log_every_n_steps=1"]
    words += ["--checkpoint.save_top_k=-1", "--checkpoint.filename={epoch}"]

    def fit(name, *more):
        status, said = run_cli(fit_words(tiny_sd, tiny_clip, pictures, root / name, *words, *more, epochs=2))
        assert status == 0, said
        return root / name

    straight = fit("straight")
    resumed = fit("resumed")
    fit("resumed", f"--ckpt_path={resumed / 'checkpoints' / 'epoch=0.ckpt'}")
    return straight, resumed


def rows_of(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return sorted(
            tuple(sorted((key, value) for key, value in row.items() if value)) for row in csv.DictReader(file)
        )


@pytest.mark.slow
def test_every_logger_of_a_list_writes_to_the_runs_folder(runs):
    straight, _ = runs
    assert {path.parent.relative_to(straight).as_posix() for path in straight.rglob("metrics.csv")} == {"csv"}
    assert {path.parent for path in straight.rglob("*tfevents*")} == {straight}


@pytest.mark.slow
def test_csv_is_whole_after_a_resume(runs):
    straight, resumed = map(rows_of, runs)
    assert len(straight) > 10
    assert resumed == straight


@pytest.mark.slow
def test_tensorboard_is_whole_after_a_resume(runs):
    straight, resumed = (EventAccumulator(str(folder)).Reload() for folder in runs)
    for tag in ("train/loss", "train/lr", "val/skill"):
        one, other = ({event.step: event.value for event in board.Scalars(tag)} for board in (straight, resumed))
        assert one == other and one, tag
        assert len(resumed.Scalars(tag)) <= len(one) + 1  # the step of the checkpoint itself may be there twice
    assert [event.step for event in resumed.Images("samples")] == [5, 10]


@pytest.mark.slow
def test_the_learning_rate_is_a_curve(tiny_sd, tiny_clip, pictures, tmp_path):
    schedule = {"class_path": "stylelora.schedules.Schedule", "init_args": {"shape": "linear"}}
    words = [f"--model.lr_scheduler={json.dumps(schedule)}", "--trainer.log_every_n_steps=1"]
    words += ["--model.optimizer.lr=0.5e-3", "--trainer.logger=lightning.pytorch.loggers.CSVLogger"]
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "x", *words))[0] == 0
    rates = [float(dict(row)["train/lr"]) for row in rows_of(tmp_path / "x") if "train/lr" in dict(row)]
    assert sorted(rates) == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])


@pytest.mark.slow
def test_hparams_show_the_kept_metrics(runs):
    from tensorboard.plugins.hparams import plugin_data_pb2

    straight, _ = runs
    board = EventAccumulator(str(straight)).Reload()
    kept = {name: record["value"] for name, record in metrics_of(straight).items()}
    assert len(kept) == 3  # skill, and the CLIP score of the samples and of the base's
    shown = {tag: board.Scalars(tag)[-1].value for tag in board.Tags()["scalars"] if tag.startswith("kept/")}
    assert shown == pytest.approx({f"kept/{name}": value for name, value in kept.items()})
    content = board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert {metric.name.tag for metric in experiment.metric_infos} == set(shown)
    assert {"rank", "alpha"} <= {hparam.name for hparam in experiment.hparam_infos}
    assert "hp_metric" not in board.Tags()["scalars"]
