"""Launchers of clusters, whose machines see the same files as this one: Ray and SLURM do all of the scheduling."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from stylelora.records import InputError
from stylelora.runs.start import GRACE, ROOT, stop_all
from stylelora.studies.work import Step, work

LOOK = 1.0  # seconds between two looks at the jobs
DAY = 24 * 60  # minutes
PATHS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


class Task:
    """Does a step on another machine, in the folder that the study was started in."""

    def __init__(self) -> None:
        self.folder = os.getcwd()

    def __call__(self, step: Step) -> str:
        """Return what `work` does; if this is interrupted, the run saves its state first."""
        os.chdir(self.folder)
        with ThreadPoolExecutor(1) as pool:  # `stop_all` cannot wait for what its own thread waits for
            future = pool.submit(work, step)
            try:
                while not future.done():
                    wait([future], LOOK)  # Ray's interrupt is not heard by a wait without end
                return future.result()
            except BaseException:
                stop_all()
                raise

    def checkpoint(self, step: Step) -> Any:
        """Return what submitit queues when the time of a job is over: the same step, which goes on."""
        from submitit.helpers import DelayedSubmission

        stop_all()
        return DelayedSubmission(self, step)


class Ray:
    """Runs steps on a Ray cluster that is there already (`ray start`), one on each core or GPU.

    Args:
        workers: how many at once; None: as many as the cluster has cores, or GPUs if it has any.

    Raises:
        InputError: if Ray is not installed, or there is no cluster.
    """

    def __init__(self, workers: int | None) -> None:
        ray = needed("ray")
        try:
            environment = {"env_vars": {"PYTHONPATH": PATHS}}
            ray.init("auto", log_to_driver=False, logging_level="error", runtime_env=environment)
        except ConnectionError as error:
            raise InputError("there is no Ray cluster; start one: `ray start --head`") from error
        has = ray.cluster_resources()
        self.kind = "num_gpus" if has.get("GPU") else "num_cpus"
        self.workers = workers or int(has.get("GPU") or has["CPU"])

    def __call__(self, steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
        """Yield each step as it ends, with why it failed."""
        import ray

        task = Task()
        remote, waiting, left = ray.remote(**{self.kind: 1})(lambda step: task(step)), {}, list(steps)
        try:
            while left or waiting:
                while left and len(waiting) < self.workers:
                    step = left.pop(0)
                    waiting[remote.remote(step)] = step
                for one in ray.wait(list(waiting))[0]:
                    step = waiting.pop(one)
                    try:
                        yield step, ray.get(one)
                    except ray.exceptions.RayError as error:
                        yield step, str(error).strip().splitlines()[0]
        except BaseException:
            for one in waiting:
                ray.cancel(one)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=GRACE)
            raise


class Slurm:
    """Queues steps as a job array of SLURM, by submitit; a job whose time is over is queued again and goes on.

    Args:
        workers: how many at once; None: all.
        folder: gets the files of the jobs.
        options: of submitit, such as `slurm_partition`, `timeout_min`, `gpus_per_node` and `mem_gb`.

    Raises:
        InputError: if submitit is not installed, there is no SLURM, or submitit does not know an option.
    """

    def __init__(self, workers: int | None, folder: Path, options: dict[str, Any]) -> None:
        submitit = needed("submitit")
        options = {"name": "stylelora", "timeout_min": DAY, "cpus_per_task": 1, **options}
        self.workers = workers or 1  # nobody knows how many machines are free
        if workers:
            options["slurm_array_parallelism"] = workers
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=options.pop("cluster", "slurm"))
            self.executor.update_parameters(**options)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise InputError(f"submitit refuses: {' '.join(str(error).split())}") from error
        os.environ["PYTHONPATH"] = PATHS  # jobs get it

    def __call__(self, steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
        """Yield each step as it ends, with why it failed."""
        from submitit.core.utils import UncompletedJobError
        from submitit.helpers import as_completed

        jobs = dict(zip(self.executor.map_array(Task(), steps), steps, strict=True)) if steps else {}
        try:
            for job in as_completed(list(jobs), poll_frequency=LOOK):
                try:
                    yield jobs[job], job.result()
                except UncompletedJobError as error:
                    yield jobs[job], str(error).strip().splitlines()[0]
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def needed(name: str) -> Any:
    """Import a package of an extra.

    Raises:
        InputError: if it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = {"ray": "ray", "submitit": "slurm"}[name]
        raise InputError(f"{name} is not installed; type `pip install -e '.[{extra}]'`") from error
