"""Look at the configs of all runs before the first one starts."""

from __future__ import annotations

import importlib
from pathlib import Path
from tempfile import TemporaryDirectory

from stylelora.console.checks import meant
from stylelora.console.errors import sentence
from stylelora.metrics.measure import MEASURES
from stylelora.records import InputError
from stylelora.studies.plan import Study, write_configs
from stylelora.texts import read_yaml


def parser_alone() -> type:
    """Return the command line's class, which parses and then neither builds nor runs anything."""
    kind = importlib.import_module(
        "cli"
    ).build_cli()  # by its name, as `start` starts it: nothing here imports Lightning
    skipped = ("_set_seed", "instantiate_classes", "_run_subcommand")
    return type("Parser", (kind,), {name: lambda self, *given: None for name in skipped})


def check_configs(study: Study) -> None:
    """Let the command line parse the config of each arm, whose runs differ in the seed only, and of the test.

    Raises:
        InputError: if it refuses one, with what it says, or the metric is none.
    """
    importlib.import_module("stylelora.evaluation.measure_all")  # every measure is defined where it is computed
    if (name := study.metric.partition("[")[0]) not in MEASURES:
        raise InputError(f"{study.file}: there is no metric {name}{meant(name, list(MEASURES))}")
    of_test = read_yaml(study.test)["model"]["init_args"]
    count, weights = len(study.tests[0].runs), of_test.get("weights") or []
    if empty := [name for name in ("weights", "methods", "strengths", "guidance_scales") if of_test.get(name) == []]:
        raise InputError(f"{study.file}: {study.test} has no {empty[0]}; give one at least")
    rows = weights if not weights or isinstance(weights[0], list) else [weights]
    if bad := [row for row in rows if len(row) != count]:
        raise InputError(
            f"{study.file}: {study.test} has {len(bad[0])} weights for a blend, but each test has the adapters of "
            f"{count} runs; give each a weight, or name the factor whose runs are tested together"
        )
    look = Look()
    with TemporaryDirectory() as folder:
        files = zip(study.runs, write_configs(study, Path(folder)), strict=True)
        configs = [(run.label, "fit", file) for run, file in files if run.seed == study.seeds[0]]
        for label, verb, file in [*configs, ("its test", "test", study.test)]:
            if said := look([verb, f"--config={file}"]):
                raise InputError(f"{study.file}, {label}: {said}")


class Look:
    """Parses command lines, each as a run of its own would, but with one parser for each verb, slow to build."""

    def __init__(self) -> None:
        self.kind, self.built = parser_alone(), {}

    def __call__(self, words: list[str]) -> str:
        """Return why the command line refuses words, which are a verb and options; "" if it takes them."""
        try:
            if words[0] not in self.built:
                self.built[words[0]] = self.kind(words, args=words)
            else:
                built = self.built[words[0]]
                built.words = words
                built.parse_arguments(built.parser, words)
                built.before_instantiate_classes()
        except Exception as error:  # a defect is raised again
            return sentence(error, words)
        return ""
