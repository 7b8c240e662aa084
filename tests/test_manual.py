"""What the manual tells people to type works.

```bash and ```python blocks are run, ```console ones (a GPU, minutes of work) only parsed. PICTURES is a folder.
"""

import ast
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from stylelora.lora.read import Adapter
from stylelora.studies.check import Look

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs" / "README.md", *DOCS]
BLOCK = re.compile(r"^```(bash|console|python)\n(.*?)^```", flags=re.M | re.S)
IGNORED = {
    "source",
    "tensorboard",
    "pip",
    "cp",
    "export",
    "hf",
}  # act on a terminal, run for ever, install, name another program's folder
PICTURES = "stylelora/data/embedded/watercolor"


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path):
    """Language and text of each block, in order."""
    return BLOCK.findall(path.read_text())


def commands(text):
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


WITH_COMMANDS = [page for page in PAGES if any(language != "python" for language, _ in blocks(page))]
WITH_CODE = [page for page in PAGES if any(language == "python" for language, _ in blocks(page))]
RUN = [page for page in PAGES if any(language != "console" for language, _ in blocks(page))]


def files_of_the_manual(paths, triggers=None):
    """Stand-ins for adapters that were not trained here; of those in a run's folder a style that comes along."""
    notes = {True: {"base": "mini", "trigger": "wcstyle", "style": "watercolor"}, False: {"base": "mini"}}
    return [Adapter(Path(path).stem, {}, {}, "", notes["runs/" in path]) for path in paths]


@pytest.fixture(scope="module")
def look():
    return Look()


@pytest.fixture
def parse(monkeypatch, look):
    """Run a command line up to where it would begin to work; one parser serves all commands."""

    def parsed(words, _allowed=frozenset()):
        if said := look(words):
            sys.exit(said)

    monkeypatch.setattr(cli, "build_cli", lambda: parsed)
    monkeypatch.setattr("stylelora.lora.read.read_adapters", files_of_the_manual)
    for verb, module in cli.FUNCTIONS.items():
        module = importlib.import_module(module)
        idle = functools.wraps(getattr(module, verb))(lambda *_, **__: None)
        monkeypatch.setattr(module, verb, idle)
    return cli.main


def check(command, parse):
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "0"))
    if words[0] in ("srun", "exec"):  # start what follows
        del words[0]
    if words[0] == "torchrun":
        words = ["python", *words[words.index("cli.py") :]]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(), flags=re.M), command
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), command
    elif words[0] not in IGNORED:
        assert words[:2] == ["python", "cli.py"], command
        if "--ckpt_path" in words:  # must exist, and here nothing was trained
            place = words.index("--ckpt_path")
            del words[place : place + 2]
        if "--resume" in words:
            place = words.index("--resume")
            words[place : place + 2] = ["--config", "configs/quickstart.yaml"]
        try:
            parse(words[2:])
        except SystemExit as end:  # --help ends so, too
            assert not end.code, f"{command}\n{end.code}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_are_accepted(page, parse, monkeypatch):
    monkeypatch.chdir(ROOT)
    for language, text in blocks(page):
        for command in commands(text) if language != "python" else ():
            check(command, parse)


@pytest.mark.parametrize(
    "command",
    [
        "python cli.py fit --config configs/quickstart.yaml --model.rnak 8",
        "python cli.py merge --adapters A --weights 1 --outptu B",
        "python cli.py merge --adapters A --weights 1 --output B --format kohay",
        "python cli.py fit --config configs/nothing.yaml",
        "make nothing",
        "python -m benchmarks.nothing",
        "rm -rf runs",
    ],
)
def test_a_wrong_command_is_seen(command, parse, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError):
        check(command, parse)


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_programs_import_what_there_is(page):
    for text in (text for language, text in blocks(page) if language == "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    places = "configs|docs|stylelora|lightning_modules|datamodules|callbacks|notebooks|benchmarks|tests"
    for name in re.findall(rf"`((?:{places})/[\w./+]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_a_page_shows_something(page):
    text = page.read_text()
    assert "![" in text or BLOCK.search(text) or text.startswith("--8<--")


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert all(len(line) <= 150 for line in lines if not line.startswith(("|", "![")))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder to run the manual in: everything but results is the repository's; two adapters after one epoch each."""
    folder = tmp_path_factory.mktemp("workshop")
    for path in ROOT.iterdir():
        if path.name not in ("runs", "reports", "data", "build", ".cache", ".git"):
            (folder / path.name).symlink_to(path)
    for style in ("watercolor", "cartoon"):
        words = f"--config configs/train/mini/{style}.yaml --trainer.max_epochs 1 --model.sample_every_n_epochs 99"
        run(folder, [sys.executable, "cli.py", "fit", *words.split()])
    (folder / "runs" / "quickstart").mkdir()  # for pages that are run without README
    shutil.copy(folder / "runs/train/mini/watercolor/watercolor.safetensors", folder / "runs" / "quickstart")
    return folder


def run(folder, words):
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_blocks_run(page, workshop):
    """`make` takes the Python of the tests for an environment that is installed."""
    for language, text in blocks(page):
        if language == "python":
            run(workshop, [sys.executable, "-c", text])
        for command in commands(text) if language == "bash" else ():
            words = shlex.split(command.replace("PICTURES", PICTURES))
            if words[0] == "make":
                ready = f"{sys.prefix}/.ready"
                run(workshop, ["make", "-o", ready, f"VENV={sys.prefix}", *words[1:]])
            elif words[0] not in IGNORED:
                run(workshop, [sys.executable, *words[1:]])
    if page.name == "README.md" and page.parent == ROOT:
        for name in ("runs/quickstart/result.json", "runs/rehearsal/samples", "blend.safetensors", "house.png"):
            assert (workshop / name).exists(), name
