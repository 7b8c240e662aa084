"""What the manual says that the code already says: read from the source when the site is built, never typed twice."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parents[1]
#: The theme takes this from the network; our own lies in docs/javascripts.
SHIM = "https://unpkg.com/iframe-worker/shim"


def constant(file: str, name: str) -> Any:
    """Return a literal that a module assigns, without importing the module."""
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return ast.literal_eval(node.value)
    raise KeyError(f"{file} assigns no {name}")


def table(heading: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def problems() -> str:
    """Return the problems that `preprocess` finds, with its advice."""
    advice = constant("stylelora/preprocess/problems.py", "ADVICE")
    return table(["problem", "what to do"], [[f"`{name}`", said] for name, said in advice.items()])


def metrics() -> str:
    """Return the names of the measures of `test`, with the sentence that the page of a test says of each."""
    rows = []
    for file in sorted((ROOT / "stylelora" / "metrics").glob("[a-z]*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            call = node.value if isinstance(node, ast.Assign) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Measure":
                name, meaning = map(ast.literal_eval, call.args)
                better = {one.arg: ast.literal_eval(one.value) for one in call.keywords}.get("higher_is_better", True)
                rows.append([f"`{name}`", meaning, "higher" if better else "lower"])
    return table(["measure", "what it says", "better"], rows)


def measures() -> str:
    """Return a mkdocstrings directive for every module of measures."""
    files = sorted((ROOT / "stylelora" / "metrics").glob("[a-z]*.py"))
    return "\n\n".join(f"::: stylelora.metrics.{file.stem}" for file in files)


GENERATED = {"{{ problems }}": problems, "{{ metrics }}": metrics, "{{ measures }}": measures}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill the markers of a page; MkDocs calls this for each."""
    for marker, generate in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def on_post_page(output: str, page: Any, **_: object) -> str:
    """Let a page load our own script for searching without a server; refuse what needs the network to be seen."""
    output = output.replace(SHIM, get_relative_url("javascripts/file-worker.js", page.url))
    if remote := re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', output):
        raise PluginError(f"{page.file.src_path} loads from the network: {remote[0]}")
    return output


def on_post_template(output_content: str, **_: object) -> str:
    """Do the same for the page that says that a page is missing; it is seen on servers only."""
    return output_content.replace(SHIM, "/javascripts/file-worker.js")
