"""A run that is killed at any moment and resumed leaves what one that ran through leaves: every bit of every file."""

import json

import pytest

from stylelora.runs.folder import adapter_file
from tests.faults.forks import Forks
from tests.faults.run_files import differences, left
from tests.runs import draw_pictures, fit_words
from tests.tiny_sd import SMALLEST_UNET, build_tiny_sd

LOGGERS = [
    {"class_path": f"lightning.pytorch.loggers.{kind}", "init_args": {"save_dir": "elsewhere"}}
    for kind in ("TensorBoardLogger", "CSVLogger")
]
SCHEDULE = {"class_path": "stylelora.schedules.Schedule", "init_args": {"shape": "linear"}}
#: Everything that has a state or draws; steps of two batches, so that the last of each epoch has one alone.
OPTIONS = [
    f"--trainer.logger={json.dumps(LOGGERS)}",
    "--trainer.log_every_n_steps=2",
    "--trainer.accumulate_grad_batches=2",
    f"--model.lr_scheduler={json.dumps(SCHEDULE)}",
    "--model.optimizer.lr=1e-2",
    "--model.ema_decay=0.9",
    "--model.text_encoder.rank=2",
    "--model.lora_dropout=0.1",
    "--model.target_modules=[to_q, to_v]",
    "--model.num_inference_steps=1",
    "--data.tag_dropout=0.3",
    "--data.keep_tags=0",
    "--data.flip=true",
    "--data.prompts=[a cat]",
    "--save_adapter.every_n_steps=2",
    "--last_checkpoint.every_n_minutes=0",
]
POINTS = 36
#: What reads or draws elsewhere than in the run's own process, or ends elsewhere than after an epoch.
OTHERS = [
    "--data.num_workers=2",
    "--data.wildcards=true",
    "--data.buckets=true",
    "--trainer.max_steps=7",
    "--trainer.max_epochs=-1",
    "--trainer.val_check_interval=3",
    "--trainer.check_val_every_n_epoch=null",
    "--model.objective.timesteps=logit_normal",
    "--model.lora.module_dropout=0.2",
    "--model.num_inference_steps=1",
    "--last_checkpoint.every_n_minutes=0",
]


@pytest.fixture(scope="module")
def forks():
    with Forks() as running:
        yield running


@pytest.fixture(scope="module")
def words(tiny_clip, pictures, tmp_path_factory):
    """Return the command line of a run in a folder."""
    root = tmp_path_factory.mktemp("kills")
    base = build_tiny_sd(root / "tiny_sd", unet=SMALLEST_UNET)

    def of(folder, *more):
        return fit_words(base, tiny_clip, pictures, folder, *OPTIONS, f"--data.cache={root / 'cache'}", *more, epochs=2)

    return of


@pytest.fixture(scope="module")
def straight(forks, words, tmp_path_factory):
    """What a run left that nothing stopped, its events, and the folder of what a kill before each would have left."""
    root = tmp_path_factory.mktemp("straight")
    ran = forks.run(words(root / "run"), root / "run", copies=str(root / "copies"))
    assert ran["status"] == 0, ran["said"]
    return left(root / "run"), ran["events"], root / "copies"


def resumed(forks, words, folder):
    """Go on with a run, or start it again if it has no state yet; return what it leaves."""
    state = (folder / "checkpoints" / "last.ckpt").is_file()
    ran = forks.run(["fit", f"--resume={folder}"] if state else words(folder), folder)
    assert ran["status"] == 0, ran["said"]
    return left(folder)


def points(events):
    """Return events of every kind, and of each kind first those that are farthest from one another."""
    places = {}
    for number, name in enumerate(events):
        places.setdefault(name, []).append(number)
    turns = [[some[len(some) * turn // 3] for some in places.values() if len(some) > turn] for turn in range(3)]
    return list(dict.fromkeys(number for turn in turns for number in turn))


@pytest.mark.slow
def test_a_run_that_was_killed_anywhere_ends_as_if_it_was_not(forks, words, straight):
    wanted, events, copies = straight
    tried = [one for one in points(events) if (copies / str(one) / "run").is_dir()][:POINTS]
    assert len(tried) >= 30
    wrong = {one: differences(wanted, resumed(forks, words, copies / str(one) / "run")) for one in tried}
    bad = {f"{one} {events[one]}": found for one, found in wrong.items() if found}
    assert not bad, json.dumps(bad, indent=1)


@pytest.mark.slow
def test_so_does_one_with_workers_prior_pictures_and_an_end_within_an_epoch(forks, tiny_clip, tmp_path):
    base = build_tiny_sd(tmp_path / "tiny_sd", unet=SMALLEST_UNET)
    pictures, prior = draw_pictures(tmp_path / "style"), draw_pictures(tmp_path / "prior", 3)
    for caption in pictures.glob("*.txt"):
        caption.write_text("a {red|blue|green} thing with {one|two} {stripes|dots}")
    more = [*OTHERS, f"--data.prior.root={prior}", f"--data.cache={tmp_path / 'cache'}"]

    def words(folder):
        return fit_words(base, tiny_clip, pictures, folder, *more)

    run, copies = tmp_path / "straight" / "run", tmp_path / "copies"
    ran = forks.run(words(run), run, copies=str(copies))
    assert ran["status"] == 0, ran["said"]
    wanted, events = left(run), ran["events"]
    assert wanted["checkpoints/last.ckpt"]["global_step"] == 7
    tried = [one for one in points(events) if (copies / str(one) / "run").is_dir()][::3][:12]
    assert len(tried) >= 8
    wrong = {one: differences(wanted, resumed(forks, words, copies / str(one) / "run")) for one in tried}
    bad = {f"{one} {events[one]}": found for one, found in wrong.items() if found}
    assert not bad, json.dumps(bad, indent=1)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_a_copy_of_the_folder_is_what_sigkill_leaves(forks, words, straight, tmp_path, share):
    """And a run that is killed again while it goes on loses nothing either."""
    wanted, events, _ = straight
    folder = tmp_path / "run"
    assert forks.run(words(folder), folder, kill=int(share * len(events)))["status"] == -9
    assert forks.run(["fit", f"--resume={folder}"], folder, kill=60)["status"] == -9
    assert not differences(wanted, resumed(forks, words, folder))


@pytest.mark.slow
def test_an_adapter_that_the_folder_lost_comes_back(forks, words, straight, tmp_path):
    wanted, events, _ = straight
    folder = tmp_path / "run"
    number = len(events) - 1 - events[::-1].index("on_train_batch_start")
    assert forks.run(words(folder), folder, kill=number)["status"] == -9
    adapter_file(folder).unlink()
    assert not differences(wanted, resumed(forks, words, folder))
