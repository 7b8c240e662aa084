"""Start a run in a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # holds `cli`, unless the package is installed


def start(*words: str) -> int:
    """Run a project command in a subprocess and wait for it; its output goes to this process's stderr.

    It uses one thread, since several runs may run in parallel, and this process's working directory.

    Args:
        words: verb and options such as `fit`, `--config`, `configs/quickstart.yaml`.

    Returns:
        exit status; 0 means success.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, "-m", "cli", *words], env=environment, stdout=sys.stderr).returncode
