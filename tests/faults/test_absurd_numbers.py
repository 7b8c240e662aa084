"""Every numeric option of the command line, found from its classes: NaN, infinite, negative and absurd numbers."""

import typing
from collections.abc import Callable, Iterator

import jsonargparse
import lightning.pytorch as L
import pytest

import callbacks
from datamodules import EvaluationSet, Prompts, StyleDataModule
from lightning_modules import ComposedStyles, StyleLoRA
from stylelora.console import bound_yaml
from stylelora.console.errors import sentence
from tests.faults.making import filled
from tests.faults.receiving import RECEIVERS, at_most
from tests.runs import draw_pictures

#: Number -> whether options may take it: what is only large is refused where something of that size would be made.
NUMBERS = {".nan": False, ".inf": False, "-.inf": False, "-2": False, "1.0e+30": True, f"1{'0' * 30}": True}
CLASSES = {
    StyleLoRA: ["model", "--model.base={base}", "--model.rank=2"],
    ComposedStyles: ["model", "--model.base={base}", "--model.adapters=[{ink}]", "--model.weights=[[1.0]]"],
    StyleDataModule: ["data", "--data.root={pictures}", "--data.trigger=zq"],
    Prompts: ["data"],
    EvaluationSet: ["data", "--data.styles=[{class_path: datamodules.Anime}]"],
}
NEEDED = {  # option -> what it has an effect with
    "model.text_encoder.alpha": ["--model.text_encoder.rank=2"],
    "model.text_encoder.learning_rate": ["--model.text_encoder.rank=2"],
    "model.objective.huber_c": ["--model.objective.loss=huber"],
    "model.objective.pyramid_discount": ["--model.objective.pyramid_iterations=4"],
    "data.prior.weight": ["--data.prior.root={others}"],
    "data.prior.count": ["--data.prior.root={others}"],
}
#: Options of which Lightning speaks without naming them.
NAMELESS = ("trainer.devices", "trainer.max_time")
#: Options that take any whole number: a seed, and a resolution, which the base judges (`corpus/settings.yaml`).
ANY = ("model.options.seed", "data.resolution")


def parser_of(cls: type, name: str) -> jsonargparse.ArgumentParser:
    """Return the parser of a class's options."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, name)
    return parser


def kinds(annotation) -> Iterator:
    """Yield all types of values that an annotation names, at any depth."""
    if isinstance(annotation, type):
        yield annotation
    elif typing.get_origin(annotation) is not Callable:
        yield from (one for inner in typing.get_args(annotation) for one in kinds(inner))


def numeric(cls: type, name: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a class that take numbers, with the text that holds `NUMBER` as they are written."""
    for action in parser_of(cls, name)._actions:
        annotation = getattr(action, "_typehint", None)
        if not {int, float} & {*kinds(annotation)}:
            continue
        text, written = str(annotation), "NUMBER"
        for begins, holder in {"list[list": "[[NUMBER]]", "dict": "{to_q: NUMBER}", "tuple": "[NUMBER, 1.0]"}.items():
            written = holder if text.startswith(begins) else written
        yield action.dest, "[NUMBER]" if written == "NUMBER" and "list[float]" in text else written


OPTIONS = [(cls, *one) for cls in CLASSES for one in numeric(cls, CLASSES[cls][0])]
OF_RUNS = [one for name, cls in {"trainer": L.Trainer, **callbacks.GROUPS}.items() for one in numeric(cls, name)]


def outcome(build, text) -> str:
    """Build something with a number; return the one sentence why not, or nothing."""
    try:
        with at_most(10):
            build(text)
    except Exception as error:
        return sentence(error, ["fit"])  # raises a defect again
    return ""


def judge(option, written, build) -> None:
    """Give an option every number."""
    for number, may in NUMBERS.items():
        said = outcome(build, written.replace("NUMBER", number))
        assert said or may or (number == "-2" and option in ANY), f"{number} is taken"
        assert "\n" not in said
        assert not said or option in NAMELESS or option.rpartition(".")[2].removesuffix("s") in said


@pytest.fixture(scope="module", autouse=True)
def numbers_as_on_the_command_line():
    bound_yaml()


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "option", "written"), OPTIONS, ids=[f"{c.__name__}-{o}" for c, o, _ in OPTIONS])
def test_what_is_no_number_for_an_option_is_refused(cls, option, written, given, tmp_path):
    others = {"others": draw_pictures(tmp_path / "others")}
    name, *words = filled([*CLASSES[cls], *NEEDED.get(option, [])], tmp_path, given | others)

    def build(text):
        parser = parser_of(cls, name)
        parser.instantiate_classes(parser.parse_args([*words, f"--{option}={text}"]))

    parser_of(cls, name).instantiate_classes(parser_of(cls, name).parse_args(words))  # all else is as it should be
    judge(option, written, build)


@pytest.mark.slow
@pytest.mark.parametrize(("option", "written"), OF_RUNS, ids=[option for option, _ in OF_RUNS])
def test_what_is_no_number_for_a_run_is_refused(option, written, given, tmp_path):
    judge(option, written, lambda text: RECEIVERS["fit"](given, tmp_path, f"--{option}={text}"))
