"""One step of a study, a training or a test: what state it is in, and doing it, on this machine or any other."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from stylelora.data.prompts import read_prompts
from stylelora.files import write
from stylelora.records import InputError
from stylelora.runs.aside import set_aside
from stylelora.runs.lock import is_taken
from stylelora.runs.pictures import read_lines
from stylelora.runs.result import read_result
from stylelora.runs.start import start
from stylelora.studies.plan import as_config
from stylelora.texts import read_yaml

STOPPED = (129, 130, 138, 140, 143)  # exit codes of runs that were asked to stop
LOOK = 0.5  # seconds between two looks at a folder that another process works in
FINISHED, GOES_ON, NEW = "finished", "goes on", "new"


@dataclass(frozen=True, eq=False)
class Step:
    """A training or a test of a study.

    Attributes:
        verb: fit or test.
        label: of the runs that it is about.
        config: file of its settings, written when it begins: it is that of the run in the folder.
        settings: what it is to do.
        folder: folder of the run.
        adapters: adapter files that a test reads.
    """

    verb: str
    label: str
    config: Path
    settings: dict[str, Any]
    folder: Path
    adapters: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """Return the file that gets what the run says."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def seconds(self) -> float | None:
        """Return how long it took, if it is finished."""
        result = read_result(self.folder)
        return result["seconds"] if result.get("status") == "success" else None


def status_of(folder: Path) -> str | None:
    """Return how a folder's run ended: success, failed or cancelled, or running; None: there is no run."""
    return read_result(folder).get("status")


def state_of(step: Step) -> str:
    """Return the state of a step: FINISHED, GOES_ON, NEW, or why the run that is there is no answer.

    Finished is what succeeded with the present settings and inputs. The inputs are identified by what the run recorded:
    the hashes of the adapters, and the prompts. A training goes on that was stopped with the present settings.
    """
    wanted, result = step.settings, read_result(step.folder)
    if not result:
        return NEW
    same = not step.config.is_file() or read_yaml(step.config) == wanted  # a setting that is gone now is a change, too
    if result["status"] != "success":
        goes_on = same and step.verb == "fit" and _can_go_on(step.folder, wanted)
        return GOES_ON if goes_on else f"it ended as {result['status']}"
    if not same or not _holds(result["config"], wanted):
        return "its settings have changed since"
    if step.adapters:
        if not all(one.is_file() for one in step.adapters):
            return "its adapters are not there"
        made = read_lines(step.folder / "pictures.jsonl")
        if [*made[0]["adapters"].values()] != [sha256(one.read_bytes()).hexdigest() for one in step.adapters]:
            return "its adapters have changed since"
        prompts = wanted["data"]["init_args"].get("file")
        if prompts and {row["content"] for row in made} != {one.prompt for one in read_prompts(Path(prompts))}:
            return f"{Path(prompts).name} has changed since"
    return FINISHED


def _can_go_on(folder: Path, wanted: dict[str, Any]) -> bool:
    import yaml

    used = folder / "config.yaml"
    if status_of(folder) not in ("cancelled", "running") or not used.is_file():
        return False
    return any((folder / "checkpoints").glob("*.ckpt")) and _holds(yaml.safe_load(used.read_text()), wanted)


def _holds(used: Any, written: Any) -> bool:
    """Return whether the used settings contain all written ones, at any depth, except adapters given by hand."""
    if isinstance(written, dict):
        rest = {name: value for name, value in written.items() if name != "adapters"}
        return isinstance(used, dict) and all(_holds(used.get(name), value) for name, value in rest.items())
    if isinstance(written, list):
        return isinstance(used, list) and len(used) == len(written) and all(map(_holds, used, written))
    if isinstance(written, str) and isinstance(used, float):  # YAML takes 1e-4 for a text, the command line does not
        return str(used) == str(_number(written))
    return used == written


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def work(step: Step, **environment: str) -> str:
    """Do a step in a process of its own, unless it is finished; go on with what was stopped.

    If another process works in its folder, such as one that a killed study has left, wait until that ends.

    Args:
        step: to be done.
        environment: variables of the process.

    Returns:
        why it failed; "": it is finished.
    """
    while is_taken(step.folder):
        time.sleep(LOOK)
    state = state_of(step)
    if state == FINISHED:
        return ""
    words = [step.verb, "--config", str(step.config), f"--trainer.default_root_dir={step.folder}"]
    if state == GOES_ON:
        words = [step.verb, "--resume", str(step.folder)]
    else:
        try:
            set_aside(step.folder)  # before the config of the earlier run goes
        except InputError as error:
            return str(error)
        write(step.config, as_config(step.settings, f"{step.verb} of {step.label}"))
    code = start(*words, log=step.log, **environment)
    if not code and status_of(step.folder) == "success":
        return ""
    if code in STOPPED:
        return "it was stopped; the same command goes on with it"
    why = _reason(step, code)
    if not (step.folder / "result.json").is_file():  # it was refused before it began
        write(step.folder / "result.json", json.dumps({"status": "failed", "error": why, "config": step.settings}))
    return f"{why}; see {step.log}"


def _reason(step: Step, code: int) -> str:
    """Return why a run ended, by its own words if it had any."""
    said = re.findall(r"^error: (.*)$", step.log.read_text(errors="replace"), re.MULTILINE) if step.log.exists() else []
    if code < 0:
        return f"it was killed by signal {-code}"
    return said[-1].rstrip(".") if said else f"it ended with exit code {code}"
