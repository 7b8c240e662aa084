"""A small study, of the tiny checkpoint, for tests."""

from pathlib import Path

import yaml

from tests.runs import evaluation_words, fit_words


def settings_of(words: list[str]) -> dict:
    """Settings that a command line amounts to, as its config holds them; those of its config file are read, too."""
    settings: dict = {}
    for word in words[1:]:
        option, _, value = word.removeprefix("--").partition("=")
        value = yaml.safe_load(value)
        section, _, name = option.partition(".")
        if option == "config":
            settings = yaml.safe_load(Path(value).read_text())
        elif not name:
            settings[option] = {"class_path": value, "init_args": {}}
        elif section in ("model", "data"):
            settings[section]["init_args"][name] = value
        elif name != "default_root_dir":
            settings.setdefault(section, {})[name] = value
    return settings


def write_study(base: Path, scorer: Path, pictures: Path, folder: Path, *more: str, epochs: int = 1, **fields) -> Path:
    """Write a study of two ranks with its configs, and return its file.

    Args:
        base: tiny base.
        scorer: tiny CLIP.
        pictures: folder of pictures.
        folder: gets the files.
        more: options of the trainings.
        epochs: of each training.
        fields: of the study, instead of those here.
    """
    fit = settings_of(fit_words(base, scorer, pictures, folder / "runs" / "any", *more, epochs=epochs))
    test = settings_of(evaluation_words(base, scorer, [], [pictures], folder, weights="[[1]]"))
    test["model"]["init_args"]["adapters"] = ["given by the study"]
    for name, settings in (("base", fit), ("test", test)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    study = {
        "question": "Does the rank matter?",
        "base": str(folder / "base.yaml"),
        "factors": {"model.rank": [2, 4]},
        "test": str(folder / "test.yaml"),
    }
    file = folder / "ranks" / "study.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(study | fields, sort_keys=False))
    return file
