"""Success is written of a training that made an adapter, and of no other."""

import json

import pytest

from stylelora.runs.folder import adapter_file
from tests.runs import fit_words, one_sentence, run_cli


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("option", ["max_epochs", "max_steps", "limit_train_batches"])
def test_a_training_without_a_step_is_refused_before_anything_is_loaded(tiny_sd, pictures, tmp_path, option):
    words = [*fit_words(tiny_sd, "null", pictures, tmp_path / "run"), f"--trainer.{option}=0"]
    status, said = run_cli(words)
    one_sentence(status, said)
    assert f"trainer.{option} is 0, so nothing would be trained" in said
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_so_is_an_epoch_without_a_full_batch(tiny_sd, pictures, tmp_path):
    words = [*fit_words(tiny_sd, "null", pictures, tmp_path / "run"), "--data.batch_size=64"]
    status, said = run_cli(words)
    assert status == 1 and "error: one step needs 64 pictures" in said
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--model.optimizer.lr=1.0e-30"], "changes nothing that the base predicts"),
        (["--trainer.max_time=00:00:00:00"], "nothing was trained: its time was over"),
    ],
)
def test_a_training_that_makes_no_adapter_is_a_failure(tiny_sd, tiny_clip, pictures, tmp_path, words, why):
    status, said = run_cli([*fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "run"), *words])
    record = result_of(tmp_path / "run")
    assert status == 1 and "Traceback" not in said
    assert record["status"] == "failed" and why in record["error"] and why in said


@pytest.mark.slow
def test_no_validation_is_said(tiny_sd, tiny_clip, pictures, tmp_path):
    words = [*fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "run"), "--trainer.limit_val_batches=0"]
    status, said = run_cli(words)
    assert (status, result_of(tmp_path / "run")["status"]) == (0, "success")
    assert "nothing is measured, no samples are drawn, and the only adapter is the last one" in said
    assert adapter_file(tmp_path / "run", "-last").is_file() and not adapter_file(tmp_path / "run").exists()


@pytest.mark.slow
def test_a_finished_run_that_is_resumed_to_no_end_stays_finished(tiny_sd, tiny_clip, pictures, tmp_path, capsys):
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "run"))[0] == 0
    before = result_of(tmp_path / "run")
    status, said = run_cli(["fit", f"--resume={tmp_path / 'run'}"])
    assert status == 0 and "Traceback" not in said
    assert "is finished: its 1 epochs are done, and nothing was written" in capsys.readouterr().out
    assert result_of(tmp_path / "run") == before
