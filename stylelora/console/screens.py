"""`--help` on one screen, without delay: docstrings are read as text, so nothing heavy is loaded."""

from __future__ import annotations

import ast
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from stylelora.console.checks import check_files, check_verb, check_words
from stylelora.console.verbs import EXAMPLES, SECTIONS, SHOWN, TRAINER, VERBS

WIDTH = 100
HELP = {"-h", "--help"}


class Option(NamedTuple):
    """An option: name, text of the docstring, and default as a user would type it, or ""."""

    name: str
    text: str
    default: str

    def line(self, column: int) -> str:
        """Return the option on one line, cut to its first clause."""
        text = re.split(r"; |(?<!\.)\.(?: |$)", self.text)[0]
        default = f"  [{textwrap.shorten(self.default, 30, placeholder=' ...')}]" if self.default else ""
        room = WIDTH - column - 4 - len(default)
        return f"  {self.name:<{column}}  {textwrap.shorten(text, room, placeholder=' ...')}{default}"

    def paragraph(self) -> str:
        """Return the option with its whole text."""
        text = self.text + f" [{self.default}]" * bool(self.default)
        return f"  {self.name}\n{textwrap.fill(text, WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"


def answer(words: list[str], function: str | None, defaults: Path) -> str | None:
    """Return a `--help` screen; None if there is work to do, for which `--help_all` is prepared.

    Args:
        words: the command line; `--help_all` becomes `--help`, as the parsers behind call it.
        function: module of the function behind the verb; None: Lightning runs it.
        defaults: the config that every run shares.

    Raises:
        InputError: if there is no such verb, or a file that it names is not there.
    """
    if not words or words[0] in HELP:
        return usage()
    check_words(words)
    check_verb(words[0])
    if HELP & {*words}:
        import yaml

        path = None if function is None else f"{function}.{words[0]}"
        return screen(words[0], path, yaml.safe_load(defaults.read_text(encoding="utf-8")))
    if "--help_all" in words:
        words[1:] = ["--help"]
        if function is None:
            print(full(words[0]))
    elif function is None:
        check_files(words)
    return None


def usage() -> str:
    """Return the screen of `--help` without a verb."""
    lines = [f"  {verb:<12}  {what:<38}  {VERBS[verb][1]}" for verb, (what, _) in VERBS.items()]
    return "\n".join([
        "usage: python cli.py VERB OPTIONS",
        "Style LoRAs for Stable Diffusion: train one per art style, blend them, measure them.",
        "",
        *lines,
        "",
        "start with: python cli.py fit --config configs/quickstart.yaml",
        "options of a verb: python cli.py VERB --help; example configs: configs/README.md",
    ])  # fmt: skip


def screen(verb: str, function: str | None = None, defaults: dict | None = None) -> str:
    """Return the `--help` of a verb.

    Args:
        verb: one of VERBS.
        function: dotted path of the function behind it; None: Lightning runs it.
        defaults: what every run's config holds.
    """
    options = f"{'--config FILE' * (function is None)} [--option VALUE ...]".strip()
    what = f"{VERBS[verb][0]}."
    if function is not None:
        what = re.split(r";|(?<=\.) ", (ast.get_docstring(_find(*function.rsplit(".", 1)))).split("\n")[0])[0]
    what = what.rstrip(".") + "."
    lines = [f"usage: python cli.py {verb} {options}", textwrap.shorten(what[0].upper() + what[1:], WIDTH), ""]
    if function is None:
        groups = [lightning_options(SHOWN[verb], defaults or {})]
        for (section, dotted), names in SECTIONS[verb]:
            known = {option.name: option for option in options_of(dotted, f"--{section}.")}
            groups.append([known[f"--{section}.{name}"] for name in names])
    else:
        groups = [options_of(function)]
    column = max(len(option.name) for group in groups for option in group)
    lines += [option.line(column) for group in groups for option in group]
    lines += ["", *(f"python cli.py {verb} {words}" for words in [VERBS[verb][1], *EXAMPLES.get(verb, [])])]
    return "\n".join([*lines, f"all options in full: python cli.py {verb} --help_all"])


def full(verb: str) -> str:
    """Return the full help of the project's own options of a Trainer verb."""
    sections = [(dotted, options_of(dotted, f"--{section}.")) for (section, dotted), _ in SECTIONS[verb]]
    for title, which, of in (("going on with a run", "--resume", "fit"), ("pictures to test on", "--style", "test")):
        ours = [Option(name, text, "") for name, text in TRAINER.items() if name.startswith(which)]
        sections = [(title, ours)] * (verb == of) + sections
    return "\n".join(
        "\n".join([f"{title}:", *(option.paragraph() for option in options), ""]) for title, options in sections
    )


def lightning_options(names: list[str], defaults: dict) -> list[Option]:
    """Return some of Lightning's options, with the project's defaults."""
    found = []
    for name in names:
        value = defaults
        for part in name.removeprefix("--").split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        shown = _typed(value) if not isinstance(value, dict) else ""
        found.append(Option(name, *_default_of(TRAINER[name], shown)))
    return found


def options_of(dotted: str, prefix: str = "--") -> list[Option]:
    """Return the options of one of our classes, dataclasses or functions, from its source, without importing it.

    Args:
        dotted: path, such as callbacks.CLIPScore.
        prefix: of the options' names.
    """
    node = _find(*dotted.rsplit(".", 1))
    texts = _documented(ast.get_docstring(node) or "")
    return [
        Option(prefix + name, *_default_of(_with_choices(texts.get(name, ""), kind), _literal(value)))
        for name, kind, value in _arguments(node)
    ]


def _arguments(node: ast.ClassDef | ast.FunctionDef) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return name, annotation and default of each argument; of a dataclass, of each field."""
    if isinstance(node, ast.ClassDef):
        made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if not made:
            return [(one.target.id, one.annotation, one.value) for one in node.body if isinstance(one, ast.AnnAssign)]
        node = made[0]
    given = node.args.args[node.args.args[0].arg == "self" :]
    values = [None] * (len(given) - len(node.args.defaults)) + node.args.defaults
    return [(argument.arg, argument.annotation, value) for argument, value in zip(given, values, strict=True)]


def _find(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    """Return the definition of a name, also where a package re-exports it."""
    top, *rest = module.split(".")
    path = Path(find_spec(top).origin).parent.joinpath(*rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _find(node.module, name)
    raise LookupError(f"{module} has no {name}")


def _documented(docstring: str) -> dict[str, str]:
    """Return argument -> text of a docstring in Google style."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", docstring, flags=re.M)
    entries = re.findall(r"^    (\w+): ((?:.*)(?:\n {5,}.*)*)", section.group(1) if section else "", flags=re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def _with_choices(text: str, kind: ast.expr | None) -> str:
    """Return the text, with the choices of a Literal in front if the first clause does not name them all."""
    for node in ast.walk(kind) if kind else ():
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            choices = ast.literal_eval(node.slice)
            if any(choice not in text.split(";")[0] for choice in choices):
                return f"{', '.join(choices)}{';' if text.startswith(choices) else ':'} {text}"
    return text


def _literal(node: ast.expr | None) -> str:
    try:
        return "" if node is None else _typed(ast.literal_eval(node))
    except ValueError:  # an object; its docstring tells
        return ""


def _typed(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_typed, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _default_of(text: str, default: str) -> tuple[str, str]:
    """Return a text and the default; where the signature has none, the text may tell."""
    told = re.search(r"[;.,]? (?:default|null): (.+?)(?:\. |\.?$)", text)
    if default or not told:
        return text, default
    return text.replace(told.group(), ". ", 1).strip(), re.sub(r" \(.*?\)", "", told.group(1))
