"""Processes of one run as `torchrun` and SLURM's `srun` start them, here on one machine that stands for two."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.runs import ROOT

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
#: Options of a run on two machines with one device each.
TWO_MACHINES = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]


def free_port() -> str:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        return str(here.getsockname()[1])


def slurm(rank: int, port: str) -> dict[str, str]:
    """What SLURM tells the process of one of two machines."""
    told = {"JOB_ID": "17", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "LOCALID": "0"}
    told |= {"PROCID": str(rank), "NODEID": str(rank), "NODELIST": "localhost"}
    return {f"SLURM_{name}": value for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def finished(commands: list[list[str]], environments: list[dict[str, str]], timeout: int = 300) -> list:
    """Run processes at the same time; return exit code and output of each."""
    told = [os.environ | {"PYTHONPATH": str(ROOT)} | one for one in environments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(words, env=env, **pipes) for words, env in zip(commands, told, strict=True)]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def two_machines(launcher: str, words: list[str]) -> list:
    """Run the command line on two machines that share a drive; return exit code and output of each."""
    port, program = free_port(), [str(ROOT / "cli.py"), *words, *TWO_MACHINES]
    if launcher == "srun":
        return finished([[sys.executable, *program]] * 2, [slurm(rank, port) for rank in range(2)])
    where = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"]
    return finished([[TORCHRUN, *where, f"--node_rank={rank}", *program] for rank in range(2)], [{}, {}])


def one_machine(words: list[str]) -> list:
    """Run the command line in two processes that torchrun starts."""
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    return finished([[TORCHRUN, "--standalone", "--nproc_per_node=2", str(ROOT / "cli.py"), *words, *two]], [{}])
