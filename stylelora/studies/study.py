"""The program `study`: answers a question with all the runs that it takes, with one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from stylelora.studies.check import check_configs
from stylelora.studies.launchers import Launcher, Name, launcher_of
from stylelora.studies.plan import Study
from stylelora.studies.reading import read_study, set_option
from stylelora.studies.report import write_report
from stylelora.studies.report_figures import check_matplotlib
from stylelora.studies.work import FINISHED, GOES_ON, NEW, Step, state_of
from stylelora.texts import read_yaml

REPORTS = Path("reports")


def study(
    file: Path,
    dry_run: bool = False,
    launcher: Name = "local",
    workers: int | None = None,
    slurm: dict[str, Any] | None = None,
) -> None:
    """Run a study: train and test what has no result yet, then report; started again, it goes on.

    Args:
        file: the study, such as configs/ablations/rank/study.yaml; docs/how-to/studies.md explains what is in it.
        dry_run: only say what would run, and how long that may take.
        launcher: local, this machine; ray, a cluster started by `ray start`; slurm, a job array.
        workers: how many runs at once; default: as many as there are GPUs, or else cores; of SLURM, all.
        slurm: options of SLURM's jobs, as submitit has them, such as {slurm_partition: gpu, gpus_per_node: 1}.

    Raises:
        InputError: if the file is no study, the command line would refuse one of its runs, or a run fails.
    """
    plan = read_study(file)
    launch = launcher_of("local" if dry_run else launcher, workers, plan.folder, None if dry_run else slurm)
    if not dry_run:
        check_matplotlib()  # rather now than after hours
    check_configs(plan)
    steps = [*trainings(plan), *tests(plan)]
    if dry_run:
        print("\n".join(preview(plan, steps, launch.workers)))
        return
    try:
        failed = _run(steps, launch)
    except SystemExit:
        left = dict.fromkeys(f"{step.verb} of {step.label}" for step in unfinished(steps))
        print(f"\nnot finished: {'; '.join(left)}", file=sys.stderr)
        raise
    try:
        print(f"report: {write_report(plan, REPORTS / plan.name)}")
    except InputError as error:
        if not failed:
            raise
        print(f"no report: {error}")
    if failed:
        reasons = "; ".join(f"{step.verb} of {step.label}: {why}" for step, why in failed.items())
        others = "the others are finished, except tests that need them"
        raise InputError(f"{len(failed)} of {len(steps)} steps failed; {others}: {reasons}")


def trainings(plan: Study) -> list[Step]:
    """Return the trainings of a study."""
    return [Step("fit", run.label, run.file, run.config, run.folder) for run in plan.runs]


def tests(plan: Study) -> list[Step]:
    """Return the tests of a study."""
    found = []
    for test in plan.tests:
        adapters, settings = tuple(run.adapter for run in test.runs), read_yaml(test.config)
        set_option(settings, "model.adapters", list(map(str, adapters)))
        config = test.folder.with_name(f"{test.folder.name}.yaml")
        found.append(Step("test", test.label, config, settings, test.folder, adapters))
    return found


def unfinished(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that are to be done: a test is, too, if one of its trainings is."""
    left = [step for step in steps if state_of(step) != FINISHED]
    adapters = {adapter_file(step.folder) for step in left if step.verb == "fit"}
    return [step for step in steps if step in left or not adapters.isdisjoint(step.adapters)]


def _run(steps: Sequence[Step], launch: Launcher) -> dict[Step, str]:
    """Do what is to be done, all trainings before the tests; return why steps failed."""
    left, failed, workers = unfinished(steps), {}, launch.workers
    print(f"{len(steps) - len(left)} of {len(steps)} are finished; {remaining(steps, left, workers)}", flush=True)
    for verb in ("fit", "test"):
        lost = {adapter_file(step.folder) for step in failed}
        due = [step for step in left if step.verb == verb and lost.isdisjoint(step.adapters)]
        for step, why in launch(due):
            left.remove(step)
            failed |= {step: why} if why else {}
            said = f"failed: {why}" if why else f"{step.seconds:.0f} s"
            count = f"[{len(steps) - len(left)}/{len(steps)}]"
            print(f"{count} {verb} of {step.label}: {said}; {remaining(steps, left, workers)}", flush=True)
    return failed


def preview(plan: Study, steps: Sequence[Step], workers: int) -> list[str]:
    """Return what a study would do, as lines."""
    left = unfinished(steps)
    lines = [f"{step.verb} of {step.label}: {_said(step)}" for step in left]
    finished = f"{len(steps) - len(left)} of {len(steps)} are finished"
    return [plan.question, *lines, f"{finished}; {remaining(steps, left, workers)}"]


def _said(step: Step) -> str:
    state = state_of(step)
    if state in (NEW, GOES_ON):
        return state
    return "again, since its training is to be done" if state == FINISHED else f"again, since {state}"


def remaining(steps: Sequence[Step], left: Sequence[Step], workers: int) -> str:
    """Return how long the rest may take, by what finished steps took, as words."""
    seconds = 0.0
    for verb in ("fit", "test"):
        due = sum(step.verb == verb for step in left)
        took = [step.seconds for step in steps if step.verb == verb and step.seconds is not None]
        if due and not took:
            return f"{len(left)} to do; how long that takes is unknown until the first {verb} is finished"
        seconds += due * float(np.mean(took)) if due else 0
    at_once = max(1, min(workers, len(left)))
    return f"about {max(1, round(seconds / at_once / 60))} min left" if left else "nothing is left to do"
