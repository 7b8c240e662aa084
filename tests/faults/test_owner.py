"""A run goes on as what it is, in its folder, wherever that was moved, and over nothing that is finished."""

import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stylelora.runs.folder import adapter_file
from tests.runs import draw_pictures, fit_words, one_sentence, run_cli, same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def words(tiny_sd, tiny_clip, pictures):
    def of(folder, *more, epochs=1):
        return fit_words(tiny_sd, tiny_clip, pictures, folder, "--clip_score.scorer=null", *more, epochs=epochs)

    return of


@pytest.fixture(scope="module")
def straight(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert run_cli(words(folder, epochs=2))[0] == 0
    return folder


@pytest.fixture(scope="module")
def half(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half") / "run"
    assert run_cli(words(folder))[0] == 0
    return folder


@pytest.fixture
def run(half, tmp_path):
    """A copy of a run of one epoch, under another name and elsewhere."""
    return shutil.copytree(half, tmp_path / "there" / "moved")


def content(folder):
    """Bytes and time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def rates(folder):
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {group["lr"] for group in state["optimizer_states"][0]["param_groups"]}


def test_a_run_goes_on_in_its_folder_wherever_it_was_moved(run, straight):
    before = content(run)
    status, said = run_cli(["fit", f"--resume={run}", "--trainer.max_epochs=2"])
    assert status == 0
    assert f"going on after step 5 of {run / 'checkpoints' / 'last.ckpt'}, with trainer.max_epochs 2 (was 1)" in said
    assert f"{run} is finished; as it is now it stays in {run}.1" in said
    assert content(run.with_name("moved.1")) == before
    for which in ("", "-last"):
        assert same(load_file(adapter_file(run, which)), load_file(adapter_file(straight, which)))
    assert not list(run.glob("run*"))  # adapters are named like the folder
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert (settings["ckpt_path"], settings["trainer"]["default_root_dir"]) == (None, str(run))
    ids = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["run"]["id"] for one in (run, straight)]
    assert len({*ids, torch.load(run.with_name("moved.1") / "checkpoints" / "last.ckpt")["run"]["id"]}) == 2


def test_a_finished_run_with_nothing_left_is_not_touched(run, capsys):
    before = content(run)
    assert run_cli(["fit", f"--resume={run}"])[0] == 0
    assert f"{run} is finished: its 1 epochs are done, and nothing was written" in capsys.readouterr().out
    assert content(run) == before
    assert [path.name for path in run.parent.iterdir()] == ["moved"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model.optimizer.lr=0.01"], "model.optimizer.lr 0.001, now 0.01"),
        (["--model.rank=8"], "model.rank 4, now 8"),
        (["--model.target_modules=[to_q]"], "model.target_modules ['to_q', 'to_k'"),
        (["--model.objective.min_snr_gamma=5"], "model.objective.min_snr_gamma null, now 5"),
        (["--data.batch_size=1"], "data.batch_size 2, now 1"),
        (["--trainer.precision=bf16-mixed"], "trainer.precision 32-true, now bf16-mixed"),
        (["--seed_everything=3"], "seed_everything 0, now 3"),
        (["--data.held_out=0.2"], "data.held_out_pictures 3 pictures"),
        (["--data.trigger=other"], "data.trigger wcstyle, now other"),
    ],
)
def test_what_changed_since_is_refused_before_anything_is_done(options, told, run, tmp_path):
    before, cache = content(run), f"--data.cache={tmp_path / 'cache'}"
    status, said = run_cli(["fit", f"--resume={run}", "--trainer.max_epochs=2", cache, *options])
    one_sentence(status, said.splitlines(keepends=True)[-1])
    assert told in said
    assert content(run) == before
    assert not (tmp_path / "cache").exists()
    assert [path.name for path in run.parent.iterdir()] == ["moved"]


def test_other_pictures_or_captions_are_refused(run, tmp_path):
    root = draw_pictures(tmp_path / "pictures")
    words = ["fit", f"--resume={run}", "--trainer.max_epochs=2", f"--data.root={root}"]
    (root / "7.txt").write_text("another thing")
    status, said = run_cli(words)
    assert status == 1 and re.search(r"pictures \(\w+\), now \d pictures", said)
    (root / "7.txt").write_text("a thing with number 7")
    status, said = run_cli(words)  # the same, elsewhere
    assert status == 0 and "with data.root /" in said


def test_what_is_allowed_takes_effect(run):
    options = ["--model.optimizer.lr=0.01", "--data.flip=true", "--trainer.max_epochs=2"]
    status, said = run_cli(["fit", f"--resume={run}", *options, "--resume_allow=lr"])
    assert status == 1 and "data.flip False, now True" in said and "optimizer.lr 0.001" not in said
    assert run_cli(["fit", f"--resume={run}", *options, "--resume_allow", "lr,data.flip"])[0] == 0
    assert rates(run) == {0.01}
    assert run_cli(["fit", f"--resume={run}", "--trainer.max_epochs=3"])[0] == 0  # it is the run's own now
    assert rates(run) == {0.01}


def test_the_config_of_a_resumed_run_trains_anew(run, straight, tmp_path):
    assert run_cli(["fit", f"--resume={run}", "--trainer.max_epochs=2"])[0] == 0
    before = content(run)
    status, said = run_cli(["fit", f"--config={run / 'config.yaml'}"])
    assert status == 0 and f"{run} held an earlier run, which is now in {run}.2" in said
    assert content(run.with_name("moved.2")) == before
    assert same(load_file(adapter_file(run)), load_file(adapter_file(straight)))


def test_a_checkpoint_of_another_run_is_no_way_into_a_folder(run, straight, words, tmp_path):
    before, checkpoint = content(run), f"--ckpt_path={straight / 'checkpoints' / 'last.ckpt'}"
    status, said = run_cli([*words(run, epochs=3), checkpoint])
    assert status == 1 and f"is no checkpoint of the run in {run}" in said
    assert content(run) == before
    status, said = run_cli([*words(tmp_path / "new", epochs=2), checkpoint])
    assert status == 1 and "has all of the 2 epochs, so nothing is left to train" in said
    assert not (tmp_path / "new").exists()
    assert run_cli([*words(tmp_path / "new", epochs=3), checkpoint])[0] == 0
    assert content(run) == before
