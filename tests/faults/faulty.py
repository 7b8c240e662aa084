"""The command line with a fault in it: `python -m tests.faults.faulty fit ...`, the fault in the variable FAULT.

FAULT is JSON: `place`, a function of the program by its full name, at whose n-th `call` something is done: `do` is the
name of a signal that the process sends itself, or `raise`; only in the process of `device`, by default in every one.
`at`, a file, is made just before, and with `wait` the process then waits until something ends it.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def owner_of(place):
    """Return the module or class that holds a function, and the function's name."""
    home, _, function = place.rpartition(".")
    try:
        return importlib.import_module(home), function
    except ModuleNotFoundError:
        module, _, kind = home.rpartition(".")
        return getattr(importlib.import_module(module), kind), function


def plant(place, call, act):
    """Let a function of the program do something before its n-th call; return a function that takes it out again."""
    owner, name = owner_of(place)
    original, calls = getattr(owner, name), []

    def faulty(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            act()
        return original(*args, **kwargs)

    setattr(owner, name, faulty)
    return lambda: setattr(owner, name, original)


def main():
    """Run the command line."""
    fault = json.loads(os.environ.get("FAULT", "{}"))

    def act():
        if at := fault.get("at"):
            Path(at).write_text(str(os.getpid()))
        if fault.get("do") == "raise":
            raise RuntimeError("out of paint")
        if fault.get("do"):
            os.kill(os.getpid(), getattr(signal, fault["do"]))
        while fault.get("wait"):
            time.sleep(0.05)

    if fault and fault.get("device", int(os.environ.get("LOCAL_RANK", 0))) == int(os.environ.get("LOCAL_RANK", 0)):
        plant(fault["place"], fault.get("call", 1), act)
    import cli

    cli.main()


if __name__ == "__main__":
    sys.exit(main())
