"""The one entry point: `python cli.py fit --config configs/quickstart.yaml`. It only wires."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from stylelora.console import bound_yaml, call, quiet
from stylelora.console.errors import sentence
from stylelora.console.family import together
from stylelora.console.screens import answer
from stylelora.console.verbs import FUNCTIONS, TRAINED
from stylelora.evaluation.own_style import with_style
from stylelora.runs.resume import command_line

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULTS = CONFIGS / "defaults.yaml"
PARSER = {"default_config_files": [str(DEFAULTS)], "exit_on_error": False, "allow_abbrev": False}
PARSER["usage"] = "%(prog)s [--config FILE] [--section.option VALUE ...]"  # the generated one fills two screens


def build_cli() -> type:
    """Return the command line class; loading what it needs takes seconds, so `--help` does without."""
    import lightning.pytorch as L
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
    from lightning.pytorch.utilities import rank_zero_only

    import callbacks
    from stylelora.runs.begin import begin, prepare_run
    from stylelora.runs.lock import owned
    from stylelora.runs.next_steps import next_steps

    class StyleCLI(callbacks.OwnFiles, LightningCLI):
        """LightningCLI with the project's callbacks as named groups, and one folder per run."""

        def __init__(self, words: list[str] | None = None, allowed: frozenset = frozenset(), **kwargs: object) -> None:
            self.words, self.allowed = words or [], allowed
            self.verbs = [verb for verb in TRAINED if [verb] == self.words[:1]] or TRAINED
            options = {"subclass_mode_model": True, "subclass_mode_data": True, "auto_configure_optimizers": False}
            options |= {"args": words, "seed_everything_default": 0, "save_config_callback": callbacks.SaveConfig}
            options |= {"save_config_kwargs": {"save_to_log_dir": False}}
            strict = {"exit_on_error": False, "allow_abbrev": False}
            options |= {"parser_kwargs": dict.fromkeys(self.verbs, PARSER) | strict}
            with contextlib.ExitStack() as self.held:
                super().__init__(L.LightningModule, L.LightningDataModule, **options | kwargs)

        def subcommands(self) -> dict[str, set[str]]:
            """Offer the verb that is typed, since each takes a while to build; without one, all that are supported."""
            return {verb: skipped for verb, skipped in LightningCLI.subcommands().items() if verb in self.verbs}

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            """Add callbacks as groups: a run file can change one number of them; a list it could only replace."""
            for name, callback in callbacks.GROUPS.items():
                parser.add_lightning_class_args(callback, name)

        def before_instantiate_classes(self) -> None:
            """Give the run its folder: runs/<path of the config file below configs/>; `validate` one inside it."""
            prepare_run(self.config[self.subcommand], CONFIGS, self.subcommand, self.words)

        def instantiate_classes(self) -> None:
            """Own the folder, once for all processes, before anything heavy is loaded."""
            self.held.enter_context(owned(self.config[self.subcommand].trainer.default_root_dir, rank_zero_only.rank))
            super().instantiate_classes()

        def before_fit(self) -> None:
            """See to what is in the folder already, before anything is encoded."""
            of_run = self.trainer, self.model, self.datamodule, self.config_dump
            self.trainer.callbacks.insert(0, callbacks.RecordSettings(*begin(self.subcommand, *of_run, self.allowed)))

        before_predict = before_test = before_validate = before_fit

        def after_fit(self) -> None:
            """Say what there is now, and what to type next."""
            if self.trainer.is_global_zero:
                print(next_steps(Path(self.trainer.default_root_dir), getattr(self.model, "base", "mini")))

    return StyleCLI


def main(args: list[str] | None = None) -> None:
    """Run a command line; `args` stands in for `sys.argv[1:]` in tests and notebooks."""
    words = list(sys.argv[1:] if args is None else args)
    function = FUNCTIONS.get(words[0] if words else "")
    try:
        with together():
            if said := answer(words, function, DEFAULTS):
                return print(said)
            quiet()
            bound_yaml()
            if function is not None:
                return call(function, words[0], words[1:])
            build_cli()(*command_line(with_style(words, CONFIGS)))
    except Exception as error:  # a defect is raised again
        sys.exit(f"error: {sentence(error, words, function)}")


if __name__ == "__main__":
    main()
