"""A run in a process of its own."""

import pytest

from stylelora.runs.start import start


@pytest.mark.slow
def test_a_run_starts_anywhere_and_its_status_comes_back(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert start("--help") == 0
    assert "fit" in capfd.readouterr().err  # a run's output is not the caller's
    assert start("fit", "--no_such_option", "1") != 0
    assert "no_such_option" in capfd.readouterr().err
