"""What a job of SLURM's does when it is stopped, and when it is started again."""

import json
import os
import signal

import pytest

from stylelora.console.stopping import numbers
from stylelora.runs.slurm import queue_again, start_of_job, unfinished_state


@pytest.fixture
def job(monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def stopped(folder, status="cancelled"):
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "result.json").write_text(json.dumps({"status": status, "slurm": start_of_job()}))


@pytest.mark.parametrize(("status", "goes_on"), [("cancelled", True), ("running", True), ("success", False)])
def test_a_job_that_is_started_again_goes_on(job, tmp_path, monkeypatch, status, goes_on):
    stopped(tmp_path, status)
    assert unfinished_state(tmp_path) is None, "the same job, not started again: another run, by hand"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert (unfinished_state(tmp_path) == tmp_path / "checkpoints" / "last.ckpt") == goes_on
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert unfinished_state(tmp_path) is None
    monkeypatch.delenv("SLURM_JOB_ID")
    assert unfinished_state(tmp_path) is None


@pytest.mark.parametrize(
    ("environment", "number", "asked"),
    [
        ({}, signal.SIGUSR1, "requeue 17"),
        ({"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}, signal.SIGUSR1, "requeue 9_3"),
        ({"SLURM_PROCID": "1"}, signal.SIGUSR1, ""),
        ({}, signal.SIGTERM, ""),
    ],
)
def test_the_first_process_has_the_job_queued_again(job, tmp_path, monkeypatch, environment, number, asked):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {tmp_path / "asked"}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    queue_again(number)
    file = tmp_path / "asked"
    assert (file.read_text() if file.exists() else "") == asked


def test_two_more_signals_stop_a_job_of_slurm(job, monkeypatch):
    """SIGUSR1 is that of Lightning's users, SIGUSR2 that of submitit."""
    assert {signal.SIGUSR1, signal.SIGUSR2} <= numbers()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert numbers().isdisjoint({signal.SIGUSR1, signal.SIGUSR2})
