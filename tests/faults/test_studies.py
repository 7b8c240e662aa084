"""Whole studies, on this machine and on clusters: failing arms, and what is killed and started again."""

import json
import os
import signal
import subprocess
import sys

import pytest

from stylelora.records import InputError
from stylelora.runs.lock import OWNER
from stylelora.studies import clusters
from stylelora.studies.launchers import launcher_of
from stylelora.studies.plan import STUDIES
from stylelora.studies.reading import read_study
from stylelora.studies.study import trainings
from stylelora.studies.work import GOES_ON, state_of
from tests.faults.test_signals_devices import alive
from tests.faults.test_signals_study import wait_for
from tests.runs import ROOT
from tests.small_study import write_study

pytestmark = pytest.mark.slow
LAUNCHERS = {
    "local": ["--workers=2"],
    "ray": ["--launcher=ray"],
    "slurm": ["--launcher=slurm", "--slurm={cluster: local}"],
}


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two machines, as far as Ray can tell, with one core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.add_node(**small)
    yield made
    made.shutdown()


@pytest.fixture
def study(request, tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch):
    """Write a study and return what starts it, in a process of its own."""
    pytest.importorskip("matplotlib")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def write(launcher, name="one", **options):
        if launcher == "ray":
            monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("cluster").address)
        if launcher == "slurm":
            pytest.importorskip("submitit")
        folder = tmp_path / name
        folder.mkdir()
        file = write_study(tiny_sd, tiny_clip, pictures, folder, metric="skill", **options)
        words = [sys.executable, str(ROOT / "cli.py"), "study", str(file), *LAUNCHERS[launcher]]

        def begin():
            return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        return folder, file, begin

    return write


@pytest.mark.parametrize(
    ("slurm", "said"),
    [({}, "Could not detect .srun."), ({"cluster": "local", "memory": 4}, "memory"), ({"cluster": "lokal"}, "lokal")],
)
def test_what_submitit_refuses_is_said(tmp_path, slurm, said):
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=f"submitit refuses: .*{said}"):
        launcher_of("slurm", None, tmp_path, slurm)


def test_a_job_whose_time_is_over_is_queued_again_with_the_same_step(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    stopped = []
    monkeypatch.setattr(clusters, "stop_all", lambda: stopped.append(True))
    monkeypatch.setattr(clusters, "work", lambda step: f"{step} in {os.getcwd()}")
    monkeypatch.chdir(tmp_path)
    task = clusters.Task()
    monkeypatch.chdir("/")
    assert task.checkpoint("a step").result() == f"a step in {tmp_path}"
    assert stopped == [True], "its run saves its state first"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_rank_times_seeds_from_nothing_with_an_arm_that_fails(study, launcher):
    seeds = 2 if launcher == "local" else 1
    folder, file, begin = study(launcher, seeds=seeds, factors={"model.rank": [2, 0, 4]})
    assert len(file.read_text().splitlines()) <= 20
    said, errors = (one := begin()).communicate(timeout=1200)
    assert one.returncode == 1, errors
    for seed in range(seeds):
        assert f"fit of rank 0, seed {seed}: failed: LoRA rank must be at least 1, got 0; see " in said
        tested = json.loads((folder / STUDIES / f"ranks/rank_4_seed_{seed}/test/result.json").read_text())
        assert tested["status"] == "success"
    assert f"error: {seeds} of {6 * seeds} steps failed; the others are finished" in errors
    report = folder / "reports" / "ranks"
    page = (report / "report.html").read_text()
    assert f"rank 0, seed {seeds - 1}" in page and "LoRA rank must be at least 1, got 0" in page
    table = (report / "table.csv").read_text()
    assert "rank 2" in table and "rank 4" in table
    assert r"\begin{tabular}" in (report / "table.tex").read_text()
    assert list(report.glob("*.svg")) and list(report.glob("*.png"))


@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_killed_and_started_again_the_report_is_the_same(study, launcher):
    folder, _, begin = study("local", "through", epochs=3)
    through = begin()
    assert through.wait(timeout=1200) == 0, through.communicate()
    expected = (folder / "reports/ranks/table.csv").read_text()

    folder, _, begin = study(launcher, "killed", epochs=3)
    runs = [folder / STUDIES / "ranks" / f"rank_{rank}_seed_0" for rank in (2, 4)]
    driver = begin()
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").is_file() for run in runs))
    driver.kill()
    driver.wait()
    assert not any((run / "test").exists() for run in runs)

    again = begin()  # at once, while its runs are still saving their state
    wait_for(lambda: (runs[1] / "test" / OWNER).is_file())
    os.kill(json.loads((runs[1] / "test" / OWNER).read_text())["pid"], signal.SIGKILL)
    said, errors = again.communicate(timeout=1200)
    assert again.returncode == 1 and "test of rank 4, seed 0: failed: it was killed by signal 9" in said, errors
    trained = {run: (run / f"{run.name}.safetensors").stat().st_mtime_ns for run in runs}

    last = begin()
    said, errors = last.communicate(timeout=1200)
    assert last.returncode == 0, errors
    assert said.startswith("3 of 4 are finished; ")
    assert trained == {run: (run / f"{run.name}.safetensors").stat().st_mtime_ns for run in runs}
    assert (folder / "reports/ranks/table.csv").read_text() == expected
    assert not alive(folder)


def test_when_a_ray_worker_is_killed_another_goes_on_with_its_run(study):
    folder, _, begin = study("ray", epochs=40)
    run = folder / STUDIES / "ranks" / "rank_2_seed_0"
    driver = begin()
    wait_for((run / "checkpoints" / "last.ckpt").is_file)
    first = json.loads((run / OWNER).read_text())["pid"]
    os.kill(parent(first), signal.SIGKILL)
    said, errors = driver.communicate(timeout=1200)
    assert driver.returncode == 0, said + errors
    assert len(list(run.glob("events.out.tfevents.*"))) == 2, "it went on, in the same folder"
    assert json.loads((run / "result.json").read_text())["status"] == "success"
    assert (folder / "reports/ranks/table.csv").is_file()
    assert not alive(folder)


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_ctrl_c_ends_the_runs_of_a_cluster_which_save_their_state(study, launcher, monkeypatch):
    folder, file, begin = study(launcher, epochs=10**6)
    driver = begin()
    runs = [folder / STUDIES / "ranks" / f"rank_{rank}_seed_0" for rank in (2, 4)]
    wait_for(lambda: all((run / "clip_score.jsonl").is_file() for run in runs))
    driver.send_signal(signal.SIGINT)
    errors = driver.communicate(timeout=120)[1]
    assert driver.returncode == 130, errors
    assert "not finished: fit of rank 2, seed 0; fit of rank 4, seed 0; test of rank 2, seed 0; test of" in errors
    assert "run the same command again to continue" in errors
    if launcher == "ray":  # submitit's local executor has a traceback of its own
        assert "Traceback" not in errors
    wait_for(lambda: not alive(folder), seconds=60)
    for run in runs:
        assert json.loads((run / "result.json").read_text())["status"] == "cancelled"
        assert (run / f"{run.name}-last.safetensors").is_file()
    monkeypatch.chdir(folder)
    steps = trainings(read_study(file))
    assert [state_of(step) for step in steps] == [GOES_ON, GOES_ON]


def parent(process):
    """The parent of a process."""
    return int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(process)], text=True))
