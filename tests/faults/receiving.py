"""What the hostile inputs of `corpus/` are given to: functions that a user reaches, and command lines."""

import contextlib
import io
import signal
from pathlib import Path

from stylelora.console import bound_yaml
from stylelora.console.screens import answer
from stylelora.records import InputError

RECEIVERS = {}


class Hangs(BaseException):
    """What takes too long; no `except Exception` stops it."""


@contextlib.contextmanager
def at_most(seconds):
    """Raise Hangs in what takes longer."""

    def stop(number, frame):
        raise Hangs(f"hangs for more than {seconds} s")

    kinds = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, stop) for number in kinds.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)  # what waits takes no time of the processor; others may take it
    try:
        yield
    finally:
        for timer in kinds:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def build(words):
    """Parse a command line and build what it names."""
    import cli

    class Built(cli.build_cli()):
        def _run_subcommand(self, subcommand):
            pass

    bound_yaml()
    answer(words, None, cli.DEFAULTS)
    Built(words, args=words)


def receiver(function):
    """Register what an entry of the corpus can be given to."""
    RECEIVERS[function.__name__.strip("_")] = function
    return function


@receiver
def base(given, path):
    """Train on a base, and draw a picture with it."""
    from lightning_modules import ComposedStyles, StyleLoRA
    from stylelora.base.load import check_resolution, native_resolution, part_hash, resolve_base
    from stylelora.data.prompts import SamplePrompt, prompt_batch

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
    from tests.runs import fit_words

    build(fit_words(given["base"], given["clip"], given["pictures"], Path(here, "runs", "x"), *more))


@receiver
def resolution(given, number):
    """Check a resolution for a base."""
    from stylelora.base.load import check_resolution

    check_resolution(given["base"], number)


@receiver
def preprocess(given, *words):
    """Make a training set of raw pictures, by a command line."""
    from stylelora.console import call
    from stylelora.console.verbs import FUNCTIONS

    bound_yaml()
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        call(FUNCTIONS["preprocess"], "preprocess", list(words))


@receiver
def predict(given, here, *more):
    """Build everything that a command line of `predict` names, and draw nothing."""
    words = ["--model=lightning_modules.ComposedStyles", f"--model.base={given['base']}", "--data=datamodules.Prompts"]
    words += [f"--model.adapters=[{given['ink']}, {given['oil']}]", "--model.weights=[[0.6, 0.4]]"]
    words += ["--data.prompts=[a cat]", "--model.num_inference_steps=2", "--trainer.accelerator=cpu"]
    build(["predict", *words, f"--trainer.default_root_dir={here}/runs/x", *more])


@receiver
def test(given, here, *more):
    """Run a command line of `test`."""
    from tests.runs import evaluation_words, run_cli

    words = [given["base"], given["clip"], [given["ink"], given["oil"]], [given["pictures"]], Path(here, "x"), *more]
    code, said = run_cli(evaluation_words(*words))
    if code:
        raise InputError(said.splitlines()[-1])
