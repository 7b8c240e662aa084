"""What the hostile inputs of `corpus/` are given to: functions that a user reaches, and command lines."""

import contextlib
import io
from pathlib import Path

from stylelora.console import bound_yaml
from stylelora.console.screens import answer

RECEIVERS = {}


def receiver(function):
    """Register what an entry of the corpus can be given to."""
    RECEIVERS[function.__name__.strip("_")] = function
    return function


@receiver
def base(given, path):
    """Train on a base, and draw a picture with it."""
    from datamodules.batches import prompt_batch
    from lightning_modules import ComposedStyles, StyleLoRA
    from stylelora.base.load import check_resolution, native_resolution, part_hash, resolve_base
    from stylelora.data.prompts import SamplePrompt

    StyleLoRA(path, rank=1, target_modules=["to_q"])
    folder = resolve_base(path)
    check_resolution(folder, native_resolution(folder))
    part_hash(folder, "vae")
    module = ComposedStyles([], [], path, num_inference_steps=1, resolution=64)
    batch = prompt_batch([SamplePrompt("a cat", "")], [0], 1)
    (row,) = module.predict_step(batch, 0)
    assert row["image"].shape == (3, 64, 64)


@receiver
def adapter(given, path):
    """Read a LoRA file as `predict`, `merge` and `convert` do."""
    from stylelora.lora.read import read_adapter

    read_adapter(path)


@receiver
def prompts(given, path):
    """Read a file of prompts."""
    from stylelora.data.prompts import read_prompts

    read_prompts(Path(path))


@receiver
def pictures(given, path):
    """Scan a folder of pictures to train on."""
    from datamodules import StyleDataModule

    StyleDataModule(path, resolution=64, trigger="zq").dataset.scan()


@receiver
def yaml(given, path):
    """Read a YAML file."""
    from stylelora.texts import read_yaml

    read_yaml(Path(path))


@receiver
def json(given, path):
    """Read a JSON file."""
    from stylelora.texts import read_json

    read_json(Path(path))


@receiver
def migrate(given, path):
    """Migrate a config of another trainer."""
    from stylelora.migration.migrate import migrate as run

    with contextlib.redirect_stdout(io.StringIO()):
        run(path, f"{Path(path).parent}/ours.yaml")


@receiver
def merge(given, words):
    """Blend LoRA files into one."""
    from stylelora.lora.merge import merge as run

    with contextlib.redirect_stdout(io.StringIO()):
        run(*words)


@receiver
def convert(given, words):
    """Rewrite a LoRA file."""
    from stylelora.lora.convert import convert as run

    with contextlib.redirect_stdout(io.StringIO()):
        run(*words)


@receiver
def compare(given, *words):
    """Compare finished tests."""
    from stylelora.evaluation.compare import compare as run

    with contextlib.redirect_stdout(io.StringIO()):
        run(*words)


@receiver
def interference(given, *words):
    """Measure how two LoRA files interfere."""
    from stylelora.evaluation.interference import interference as run

    with contextlib.redirect_stdout(io.StringIO()):
        run(*words)


@receiver
def fit(given, here, *more):
    """Build everything that a command line of `fit` names, and train nothing."""
    import cli
    from tests.runs import fit_words

    class Built(cli.build_cli()):
        def _run_subcommand(self, subcommand):
            pass

    words = fit_words(given["base"], given["clip"], given["pictures"], Path(here, "runs", "x"), *more)
    bound_yaml()
    answer(words, None, cli.DEFAULTS)
    Built(words, args=words)


@receiver
def resolution(given, number):
    """Check a resolution for a base."""
    from stylelora.base.load import check_resolution

    check_resolution(given["base"], number)
