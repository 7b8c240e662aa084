"""The page of the manual on settings of other trainers, from the tables of `migrate`.

    python -m tests.migrating

writes it; a test fails when it is not what this makes.
"""

from stylelora.migration import kohya_gui
from stylelora.migration.dialects import DIALECTS
from stylelora.migration.rows import Status
from tests.runs import ROOT

PAGE = ROOT / "docs" / "reference" / "migrating.md"
TEXT = """# Other trainers' settings

What [`migrate`](../how-to/migrating.md) makes of each setting of a config for Stable Diffusion 1.x or 2.x. This page is
written from its tables, which were read in the trainers' own code:
{sources}.

*Taken over*: it means the same here. *Equivalent*: there is its like. *Ignored*: it changes nothing here. *Not
supported*: it cannot be had; unless it is off, `migrate` says so, and what to do. A setting may turn out differently
by its value; then the report says it.

```console
python cli.py migrate my_lora.toml --output my_lora.yaml
```

{tables}"""
#: Trainer -> where its settings were read.
SOURCES = {
    "kohya's sd-scripts": "kohya-ss/sd-scripts `48d368fa` with KohakuBlueleaf/LyCORIS `f49d30d6`",
    "the kohya_ss GUI": "bmaltais/kohya_ss `45088f04`",
    "OneTrainer": "Nerogar/OneTrainer `23df3832`",
    "ai-toolkit": "ostris/ai-toolkit `27a03a91`",
}


def page() -> str:
    """The page, from the tables as they are."""
    sources = ", ".join(SOURCES[dialect.name] for dialect in DIALECTS)
    return TEXT.format(sources=sources, tables="\n".join(map(table, DIALECTS)))


def table(dialect) -> str:
    """One trainer's settings; those of the GUI that are named as in sd-scripts are in that table."""
    rows = {key: row for key, row in dialect.table.items() if " " not in key}
    first = "Settings named as in sd-scripts mean the same.\n\n" if dialect.shares else ""
    rows = {key: row for key, row in rows.items() if key not in dialect.shares}
    lines = []
    for (status, ours, note), keys in grouped(rows).items():
        names = ", ".join(f"`{key}`" for key in keys)
        options = ", ".join(f"`{option}`" for option in ours.split(", ") if option)
        said = status if status is not Status.UNSUPPORTED else f"**{status}**"
        lines.append(f"| {names} | {options} | {said}{f': {note}' if note else ''} |")
    if dialect.shares:
        lines += [
            f"| `{name}` |  | as `{key}` of sd-scripts |" for name, (key, _) in kohya_gui.TO.items() if name != key
        ]
    title = dialect.name[0].upper() + dialect.name[1:]
    return f"## {title}\n\n{first}| setting | here | what becomes of it |\n|---|---|---|\n" + "\n".join(lines) + "\n"


def grouped(rows) -> dict:
    """Settings by what becomes of them; those with an option of ours stay by themselves."""
    found = {}
    for key, row in rows.items():
        found.setdefault((row.status, row.ours, row.note), []).append(key)
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
