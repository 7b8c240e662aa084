"""One owner per run folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from stylelora.records import InputError
from stylelora.runs.lock import LOCK, OWNER, check_free, owned
from tests.runs import ROOT

HOLD = "import sys, time; from pathlib import Path; from stylelora.runs.lock import owned\n"
HOLD += "with owned(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """A process that owns a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_says_who_holds_the_folder_until_that_one_is_killed(holder, tmp_path):
    with pytest.raises(InputError) as refused, owned(tmp_path / "run"):
        pass
    said = str(refused.value)
    assert f"process {holder.pid} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d')}" in said
    assert str(tmp_path / "run") in said and "--trainer.default_root_dir" in said
    with pytest.raises(InputError, match=f"process {holder.pid}"):  # nor may it be moved with the folder around it
        check_free(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / OWNER).is_file()  # its words are still there, but no lock
    check_free(tmp_path)
    with owned(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / OWNER).read_text())["pid"] == os.getpid()


def test_an_owner_leaves_nothing_but_what_it_wrote(tmp_path):
    for failing in (False, True):
        try:
            with owned(tmp_path / "a" / "b"):
                assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [LOCK, OWNER]
                assert not failing or 1 / 0
        except ZeroDivisionError:
            assert failing
        assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "a"):
        (tmp_path / "a" / "result.json").write_text("{}")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result.json"]


def test_the_other_processes_of_a_run_leave_the_folder_to_the_first(tmp_path):
    with owned(tmp_path), owned(tmp_path, rank=1), pytest.raises(InputError), owned(tmp_path):
        pass


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_place_that_is_no_folder_is_said(where, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written to \(.*name another"), owned(tmp_path / where):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_another_machine_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no local file"), owned("s3://bucket/run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_workers_of_a_killed_run_do_not_keep_its_lock(tmp_path):
    """A forked process has the parent's open files, so the lock too, unless it lets go of it."""
    with owned(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
    try:
        with owned(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
