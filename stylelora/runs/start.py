"""Start a run in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # where `cli` is, unless the package is installed


def start(*words: str) -> int:
    """Run a command line of the project and wait for it; what it prints goes to this process's stderr.

    It has one thread, since several runs stand side by side, and the working folder of this process.

    Args:
        words: verb and options, such as `fit`, `--config`, `configs/quickstart.yaml`.

    Returns:
        exit status; 0: success.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, "-m", "cli", *words], env=environment, stdout=sys.stderr).returncode
