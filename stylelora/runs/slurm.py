"""Jobs of SLURM, which stops them when it needs the machine, and starts them again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def job() -> str | None:
    """Return the number of this job, None outside SLURM; of an array's job with its place in it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def queue_again(number: int | None) -> None:
    """Let SLURM queue this job once more, if its signal is what stopped it."""
    if number != getattr(signal, "SIGUSR1", None) or job() is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    if shutil.which("scontrol") is None or subprocess.run(["scontrol", "requeue", job()]).returncode:
        print(f"job {job()} could not be queued again; give its command once more", file=sys.stderr)


def start_of_job() -> dict[str, str | int] | None:
    """Return what a result notes of SLURM: the job, and how often it was started again; None outside SLURM."""
    return {"job": job(), "restarts": int(os.environ.get("SLURM_RESTART_COUNT", 0))} if job() else None


def unfinished_state(folder: Path) -> Path | None:
    """Return the checkpoint that a job goes on from which SLURM has started again; None: it is another run.

    Args:
        folder: folder of the run.
    """
    now, state, result = start_of_job(), folder / "checkpoints" / "last.ckpt", folder / "result.json"
    if now is None or not state.is_file() or not result.is_file():
        return None
    found = json.loads(result.read_text())
    then = found.get("slurm") or {}
    again = then.get("job") == now["job"] and then["restarts"] < now["restarts"]
    return state if again and found["status"] in ("cancelled", "running") else None
