"""What `migrate` finds in the captions that a config names: their trigger word, and what `fit` reads otherwise."""

import json

import pytest
import yaml

from stylelora.migration.migrate import migrate


def captioned(folder, *captions, ending=".txt"):
    """A folder of pictures with these captions; nothing decodes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(captions):
        (folder / f"{number}.png").touch()
        if caption is not None:
            (folder / f"{number}{ending}").write_text(caption)
    return str(folder)


@pytest.fixture
def migrated(tmp_path, capsys):
    """What a config becomes: options of data, the line on the trigger word, and what the program prints."""

    def made(name, config):
        (tmp_path / name).write_text(config)
        migrate(str(tmp_path / name), str(tmp_path / "ours.yaml"))
        text, said = (tmp_path / "ours.yaml").read_text(), capsys.readouterr().out
        line = next(line for line in text.splitlines() if line.startswith("#   trigger") and "data.trigger" in line)
        return yaml.safe_load(text)["data"]["init_args"], line, said

    return made


def kohya(folder, **settings):
    config = {"pretrained_model_name_or_path": "b", "output_name": "v1", "train_data_dir": folder} | settings
    return "a.toml", "".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items())


def onetrainer(folder):
    concept = {"name": "v1", "path": folder}
    return "a.json", json.dumps({"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "concepts": [concept]})


def ai_toolkit(folder):
    process = {"type": "sd_trainer", "network": {"type": "lora"}, "model": {"name_or_path": "b"}}
    process |= {"trigger_word": None, "datasets": [{"folder_path": folder}]}
    return "a.yaml", yaml.safe_dump({"config": {"name": "v1", "process": [process]}})


@pytest.mark.parametrize("trainer", [kohya, onetrainer, ai_toolkit])
def test_the_trigger_is_the_tag_that_captions_begin_with(migrated, tmp_path, trainer):
    folder = captioned(tmp_path / "p", "wcs, a fox", "wcs, a house", "wcs, an owl")
    data, line, said = migrated(*trainer(folder))
    assert (data["trigger"], data["template"]) == ("wcs", "{text}")
    assert f"3 of 3 captions in {folder} hold it" in line and "every prompt" not in said


@pytest.mark.parametrize("trainer", [kohya, onetrainer, ai_toolkit])
def test_a_trigger_that_captions_do_not_hold_is_said(migrated, tmp_path, trainer):
    folder = captioned(tmp_path / "p", "a fox", "a house")
    data, line, said = migrated(*trainer(folder))
    assert data["trigger"] == "v1" and f"0 of 2 captions in {folder} hold it" in line
    assert line.removeprefix("#   ") in said and "predict and test put it before every prompt" in said
    data, line, said = migrated(*trainer(str(tmp_path / "elsewhere")))
    assert data["trigger"] == "v1" and "cannot be read here" in line and line.removeprefix("#   ") in said


def test_a_named_word_counts_if_captions_hold_it(migrated, tmp_path):
    folder = captioned(tmp_path / "p", "1girl, ink", "1girl, a tree in INK", "1girl, inky")
    assert migrated(*kohya(folder, class_tokens="ink"))[0]["trigger"] == "1girl"  # two of three are too few
    (tmp_path / "p" / "2.txt").write_text("1girl, sea, ink")
    assert migrated(*kohya(folder, class_tokens="ink"))[0]["trigger"] == "ink"
    data, line, _ = migrated(*kohya(str(tmp_path / "elsewhere"), caption_prefix="wcs, "))
    assert data["trigger"] == "wcs" and "caption_prefix" in line


def test_caption_files_that_fit_would_refuse_are_said(migrated, tmp_path):
    folder = captioned(tmp_path / "p", "v1, a fox", "v1, a house")
    (tmp_path / "p" / "1.caption").write_text("v1, a home")
    _, line, said = migrated(*kohya(folder, caption_extension=".txt"))
    assert "fit refuses the folder: 1.txt and 1.caption differ; keep one of them" in said
    assert "cannot be read here (1.txt and 1.caption differ" in line
    (tmp_path / "p" / "1.caption").write_text("v1, a house")
    assert "differ" not in migrated(*kohya(folder, caption_extension=".txt"))[2]


def test_captions_of_several_lines_are_said(migrated, tmp_path):
    folder = captioned(tmp_path / "p", "v1, a fox\nv1, an animal\n", "v1, a house\n")
    assert "1 have several lines, which fit reads as one caption; kohya reads the first" in migrated(*kohya(folder))[2]
    assert "1 have several lines, which fit reads as one caption; OneTrainer" in migrated(*onetrainer(folder))[2]
    assert "several lines" not in migrated(*kohya(folder, enable_wildcard=True))[2]
    migrated(*kohya(str(tmp_path / "elsewhere")))
    assert "of several lines fit reads all, but kohya reads the first" in (tmp_path / "ours.yaml").read_text()


def test_folders_that_are_left_out_are_said_in_the_last_line(migrated, tmp_path):
    subsets = "".join(f'[[datasets.subsets]]\nimage_dir = "{name}"\n' for name in "abc")
    (tmp_path / "sets.toml").write_text(f"[[datasets]]\n{subsets}")
    said = migrated(*kohya("unused", dataset_config=str(tmp_path / "sets.toml")))[2]
    assert "but ONLY 1 of 3 folders is trained on: a; then:" in said.splitlines()[-1]
    for trainer, one, key in ((onetrainer, "concepts", "path"), (ai_toolkit, "datasets", "folder_path")):
        name, text = trainer("a")
        config = yaml.safe_load(text)
        place = config["config"]["process"][0] if "config" in config else config
        place[one].append({key: "b", "mask_path": "masks"})
        said = migrated(name, json.dumps(config))[2]
        assert "but ONLY 1 of 2 folders is trained on: a; then:" in said.splitlines()[-1]
        assert "ONLY" not in migrated(*trainer("a"))[2]


def test_the_words_of_one_of_several_folders_are_not_in_all_captions(migrated, tmp_path):
    captioned(tmp_path / "p" / "10_fox", None, None)
    captioned(tmp_path / "p" / "3_house", None)
    _, line, said = migrated(*kohya(str(tmp_path / "p")))
    assert '"fox"' in line and "2 of 3 captions" in line and line.removeprefix("#   ") in said
    captioned(tmp_path / "p" / "3_house", "a fox's house")
    assert "3 of 3 captions" in migrated(*kohya(str(tmp_path / "p")))[1]
