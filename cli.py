"""The one entry point: `python cli.py fit --config configs/quickstart.yaml`. It only wires."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from pathlib import Path

from stylelora.console import USAGE, call, quiet, sentence

CONFIGS = Path(__file__).resolve().parent / "configs"
PARSER = {"default_config_files": [str(CONFIGS / "defaults.yaml")], "exit_on_error": False}
PARSER["usage"] = "%(prog)s [--config FILE] [--section.option VALUE ...]"  # the generated one fills two screens
VERBS = ("fit", "validate", "test", "predict")
ROOMS = {
    "preprocess": "preprocess",
    "merge": "lora",
    "interference": "evaluation",
    "compare": "evaluation",
    "study": "studies",
}
FUNCTIONS = {verb: f"stylelora.{room}.{verb}" for verb, room in ROOMS.items()}


def build_cli() -> type:
    """Return the command line class; what it needs takes seconds to load, so `--help` does without."""
    import lightning.pytorch as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    import callbacks
    from stylelora.runs.folder import run_folder, set_aside

    class StyleCLI(LightningCLI):
        """LightningCLI with the project's callbacks as named groups, and one folder per run."""

        def __init__(self, **kwargs: object) -> None:
            super().__init__(
                L.LightningModule,
                L.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                parser_kwargs=dict.fromkeys(VERBS, PARSER) | {"exit_on_error": False},
                **kwargs,
            )

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            """Offer the verbs that every module here supports."""
            return {verb: skipped for verb, skipped in LightningCLI.subcommands().items() if verb in VERBS}

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            """Add callbacks as groups: a run file can change one number of them; a list it could only replace."""
            parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
            for name, callback in callbacks.GROUPS.items():
                parser.add_lightning_class_args(callback, name)

        def before_instantiate_classes(self) -> None:
            """Give the run its folder: runs/<path of the config file below configs/>; `validate` one inside it."""
            config = self.config[self.subcommand]
            trainer, file = config.trainer, config.config[-1] if config.config else "unnamed"
            folder = trainer.default_root_dir or run_folder(Path(str(file)), CONFIGS)
            trainer.default_root_dir = str(Path(folder, "validate" if self.subcommand == "validate" else ""))
            config.checkpoint.dirpath = str(Path(trainer.default_root_dir, "checkpoints"))
            if "init_args" in (trainer.logger or {}):
                trainer.logger.init_args.save_dir = trainer.default_root_dir

        def before_fit(self) -> None:
            """Move an earlier run out of the way, unless it is resumed."""
            if self.trainer.is_global_zero and self.config[self.subcommand].ckpt_path is None:
                set_aside(Path(self.trainer.default_root_dir))

        before_predict = before_test = before_fit

    return StyleCLI


def main(args: list[str] | None = None) -> None:
    """Run a command line; `args` stands in for `sys.argv[1:]` in tests and notebooks."""
    words = sys.argv[1:] if args is None else args
    if words in ([], ["-h"], ["--help"]):
        return print(USAGE)
    try:
        quiet()
        if words[0] in FUNCTIONS:
            call(FUNCTIONS[words[0]], words[0], words[1:])
        else:
            build_cli()(args=args)
    except (ValueError, ArgumentError) as error:  # jsonargparse wraps what a constructor raises
        sys.exit(f"error: {sentence(error)}")


if __name__ == "__main__":
    main()
