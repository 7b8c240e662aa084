"""Whole studies: what would run, what runs, and what is said of it."""

import json
import sys
from pathlib import Path

import pytest
import yaml

import cli
from stylelora.files import write
from stylelora.records import Metric, Quantity
from stylelora.runs.folder import adapter_file
from stylelora.studies import study, work
from stylelora.studies.plan import STUDIES
from tests.small_study import write_study


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A study of two ranks, whose steps `pretend` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "check_configs", lambda plan: None)
    monkeypatch.setattr(study, "check_matplotlib", lambda: None)
    monkeypatch.setattr(study, "write_report", lambda plan, folder: folder / "report.html")
    return write_study(tmp_path / "base", tmp_path / "scorer", tmp_path / "pictures", tmp_path, seeds=2)


@pytest.fixture
def pretend(monkeypatch):
    """Leave what a run leaves, at once; `calls` are the verbs and folders, and folders in `broken` fail."""
    calls, broken = [], set()

    def start(*words, log, **environment):
        options = dict(word.split("=", 1) for word in words if "=" in word)
        folder = Path(options["--trainer.default_root_dir"])
        calls.append((words[0], folder.relative_to(STUDIES / "ranks").as_posix()))
        folder.mkdir(exist_ok=True)
        status = "failed" if folder.name in broken else "success"
        config = yaml.safe_load(Path(words[words.index("--config") + 1]).read_text())
        metric = Metric(0.5, 0.4, 0.6, 3, Quantity("attainment", "judge"), True, "a 1").as_record()
        result = {"status": status, "config": config, "seconds": 60, "metrics": [metric]}
        write(folder / "result.json", json.dumps(result))  # at once: others look at it meanwhile
        if words[0] == "fit":
            adapter_file(folder).write_text(folder.name)
        else:
            adapters = config["model"]["init_args"]["adapters"]
            hashes = {one: work.sha256(Path(one).read_bytes()).hexdigest() for one in adapters}
            (folder / "pictures.jsonl").write_text(json.dumps({"content": "a cat", "adapters": hashes}))
        log.write_text("error: it is broken\n" if status == "failed" else "")
        return int(status == "failed")

    monkeypatch.setattr(work, "start", start)
    start.calls, start.broken = calls, broken
    return start


def runs(verb, *names):
    return {(verb, name) for name in names}


NAMES = [f"rank_{rank}_seed_{seed}" for rank in (2, 4) for seed in (0, 1)]
TESTS = [f"{name}/test" for name in NAMES]


def test_a_study_trains_and_tests_once_and_says_how_far_it_is(file, pretend, capsys):
    study.study(file, workers=2)
    assert {*pretend.calls[:4]} == runs("fit", *NAMES)
    assert {*pretend.calls[4:]} == runs("test", *TESTS)
    said = capsys.readouterr().out
    assert said.startswith(
        "0 of 8 are finished; 8 to do; how long that takes is unknown until the first fit is finished\n"
    )
    assert "[4/8] fit of rank" in said
    assert "[7/8] test of rank" in said and ": 60 s; about 1 min left\n" in said
    assert said.endswith("nothing is left to do\nreport: reports/ranks/report.html\n")
    study.study(file, workers=2)
    assert len(pretend.calls) == 8, "nothing is repeated"
    assert capsys.readouterr().out.startswith("8 of 8 are finished; nothing is left to do\n")


def test_only_what_a_change_concerns_runs_again(file, pretend, capsys):
    study.study(file, workers=1)
    del pretend.calls[:]
    adapter_file(STUDIES / "ranks" / "rank_2_seed_1").write_text("another")
    study.study(file, workers=1)
    assert {*pretend.calls} == runs("test", "rank_2_seed_1/test")
    del pretend.calls[:]
    fields = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(fields | {"factors": {"model.rank": [2, 8]}}))
    study.study(file, workers=1)
    assert {*pretend.calls} == runs("fit", "rank_8_seed_0", "rank_8_seed_1") | runs(
        "test", "rank_8_seed_0/test", "rank_8_seed_1/test"
    )


def test_a_failing_arm_ends_as_failed_and_the_others_finish(file, pretend, capsys):
    pretend.broken.add("rank_2_seed_1")
    with pytest.raises(SystemExit) as end:
        cli.main(["study", str(file), "--workers=1"])
    log = STUDIES / "ranks" / "rank_2_seed_1.log"
    said = str(end.value.code)
    assert said.startswith("error: 1 of 8 steps failed; the others are finished, except tests that need them: fit of ")
    assert said.endswith(f": fit of rank 2, seed 1: it is broken; see {log}")
    done = runs("fit", *NAMES) | runs("test", *TESTS) - {("test", "rank_2_seed_1/test")}
    assert {*pretend.calls} == done
    said = capsys.readouterr().out
    assert f"fit of rank 2, seed 1: failed: it is broken; see {log}; " in said
    del pretend.calls[:]
    pretend.broken.clear()
    study.study(file, workers=1)
    assert {*pretend.calls} == runs("fit", "rank_2_seed_1") | runs("test", "rank_2_seed_1/test")


def test_a_dry_run_says_what_would_run_and_how_long_and_changes_nothing(file, pretend, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    study.study(file, dry_run=True, workers=2)
    assert pretend.calls == [] and sorted(tmp_path.rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Does the rank matter?"
    assert lines[1:5] == [f"fit of rank {rank}, seed {seed}: new" for rank in (2, 4) for seed in (0, 1)]
    assert lines[-1] == "0 of 8 are finished; 8 to do; how long that takes is unknown until the first fit is finished"
    study.study(file, workers=2)
    for name, status in (("rank_2_seed_0", "failed"), ("rank_4_seed_0", "success")):
        result = STUDIES / "ranks" / name / "result.json"
        result.write_text(json.dumps(json.loads(result.read_text()) | {"status": status, "seconds": 590}))
    capsys.readouterr()
    study.study(file, dry_run=True, workers=1)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "fit of rank 2, seed 0: again, since it ended as failed",
        "test of rank 2, seed 0: again, since its training is to be done",
        "6 of 8 are finished; about 5 min left",  # (590 + 60 + 60) / 3 of a training, and 60 s of a test
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"slurm": {"mem_gb": 4}}, "the launcher is local; add --launcher slurm"),
        ({"launcher": "slurm"}, r"submitit is not installed; type `pip install -e '.\[slurm\]'`"),
        ({"launcher": "ray"}, r"ray is not installed; type `pip install -e '.\[ray\]'`"),
    ],
)
def test_a_launcher_that_cannot_run_is_refused_before_anything_else(file, pretend, monkeypatch, options, said):
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(study.InputError, match=said) as error:
        study.study(file, **options)
    assert "\n" not in str(error.value)
    assert pretend.calls == [] and not STUDIES.exists()
