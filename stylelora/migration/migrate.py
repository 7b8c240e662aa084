"""The program `migrate`: turns a config of another trainer into one of ours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from stylelora.files import write
from stylelora.migration.dialects import recognise
from stylelora.migration.report import HEADINGS, lines_of, nested, report, written
from stylelora.migration.rows import Status
from stylelora.records import InputError
from stylelora.texts import printable, understood

#: Keys of what is beside the folder that is trained on, and the settings there that name a folder of pictures.
ANOTHER = ("another_subset", "another_concept", "another_dataset")
FOLDERS = ("image_dir", "path", "folder_path", "dataset_path")


def migrate(file: str, output: str | None = None) -> None:
    """Write the config of another trainer as one of ours, with a line on each of its settings.

    Args:
        file: TOML of kohya's sd-scripts, JSON of the kohya_ss GUI or of OneTrainer, or YAML of ai-toolkit, for a LoRA
            on Stable Diffusion 1.x or 2.x.
        output: YAML to write; default: the file's name with .stylelora.yaml, in this folder.

    Raises:
        InputError: if it is none of these, trains something else, or the output would replace it.
    """
    path = Path(file)
    target = Path(output or f"{path.stem}.stylelora.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise InputError(f"output is {target}; give it a name that ends with .yaml")
    if target.resolve() == path.resolve():
        raise InputError(f"{target} is the file that is read; give output another name")
    dialect, config = recognise(path)
    with understood(printable(path), f"correct what {dialect.name} would not write so"):
        settings = dialect.read(config, path)
    lines = lines_of(dialect, settings)
    ours = nested(lines)
    prompts = [prompt for line in lines for prompt in line.answer.prompts]
    if prompts:
        beside = target.with_suffix(".prompts.txt")
        ours["data"]["init_args"]["prompts_file"] = str(beside)
        write(beside, "\n".join(prompts) + "\n")
    replaced = target.is_file()
    write(target, written(ours, report(dialect, lines, path.name)))
    listed = [line for line in lines if line.counts]
    counts = Counter(line.answer.status for line in listed)
    found = [f"{counts[status]} {status}" for status in Status if counts[status]]
    print(f"{target} was there and is replaced\n" * replaced, end="")
    print(f"{path.name} is of {dialect.name}: {', '.join(found)}")
    for status in (Status.UNSUPPORTED, Status.UNKNOWN):
        if counts[status]:
            print(f"{HEADINGS[status]}:")
            print("\n".join(f"  {line.text()}" for line in listed if line.answer.status is status))
    left = sum(line.setting.key in ANOTHER and line.setting.name.split(".")[-1] in FOLDERS for line in lines)
    partly = f", but ONLY 1 of {left + 1} folders is trained on: {ours['data']['init_args'].get('root')}" * bool(left)
    print(f"written to {target}, with a line on each setting{partly}; then: python cli.py fit --config {target}")
