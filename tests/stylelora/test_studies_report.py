"""The files of a report, of made-up studies."""

import csv
import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.evaluation.finished import skill_by_timestep
from stylelora.records import InputError
from stylelora.studies import report_words
from stylelora.studies.report import write_report
from stylelora.studies.report_design import design_of
from stylelora.studies.report_outcome import outcome_of
from stylelora.studies.report_pictures import matrix_of
from stylelora.studies.report_read import read_arms
from stylelora.studies.report_tables import arms_table, latex, tex
from stylelora.studies.report_words import answer, p_is
from tests.studies import RANK, SCORE, by_rank, noise, said, table_of, write_run, write_study


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_report_without_its_primary_metric_is_the_same_each_time(home):
    study = write_study(home, RANK + "metric: nonsense\n", gain=by_rank)
    for name in ("one", "two"):
        write_report(study, home / name)
    for file in (home / "one").iterdir():
        assert file.read_bytes() == (home / "two" / file.name).read_bytes(), file.name
    assert not (home / "one" / "response.svg").exists()


def test_the_report_is_whole(home):
    study = write_study(home, gain=by_rank, pictures=True)
    page = write_report(study, home / "one")
    assert page == home / "one" / "report.html"
    names = {file.name for file in (home / "one").iterdir()}
    figures = {f"{name}.{kind}" for name in ("response", "differences", "timesteps") for kind in ("svg", "png")}
    assert names == {"report.html", "report.md", "report.json", "table.csv", "table.tex", "pictures.png"} | figures
    assert sum((home / "one" / name).stat().st_size for name in names) < 1_000_000
    text = page.read_text()
    for words in (
        "How large must the rank be?",
        "A rank of 16 is enough.",
        "Rank 4 loses &lt;content&gt; &amp; style.",
        "Attainment rises along rank from 4 to 64",
        "the two are equal to within 0.1",
        "The lowest level of rank that is shown to equal 64 to within 0.1, as are all between, is 16",
        "9 LoRAs of the style ink were trained on the base mini (",
        "from 71 pictures, in 3 arms that differ in rank, with the training seeds 0, 1, 2.",
        "Each arm drew 20 prompts, 1 picture of each, such as thing 0, thing 1, thing 2.",
        "0 is the mean of the base, 1 that of rank 64",
        "python cli.py study study.yaml",
        "model.rank 16, model.alpha 16",
        "<code>model.rank</code>: rank of the LoRA; a higher rank can learn more",
        "rank 16, seed 0",
        "2.13.0",
        "CC0-1.0",
    ):
        assert words in text, words
    assert "rank_16" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL), "a folder's name is no label"
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text), "the page needs no other file"
    ids = re.findall(r' id="([^"]+)"', text)
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)) <= {(one, "") for one in ids} | {
        ("", one) for one in ids
    }
    markdown = (home / "one" / "report.md").read_text()
    assert "Rank 4 loses <content> & style." in markdown
    for picture in re.findall(r"\]\((\S+)\)", markdown):
        assert (home / "one" / picture).is_file()
    check_tables(study, home / "one")


def test_what_the_adapters_cost_the_content_is_told_apart_from_what_is_tested(home, monkeypatch):
    study = write_study(home, gain=by_rank)
    found = read_arms(study)
    said = answer(study, found, outcome_of(study, found))[-1]
    for label, table in table_of(study, SCORE).items():
        assert f"{table.mean() - 0.7:+.3f} (" in said.partition(f"with rank {label}")[0], "the base's is 0.7"
    assert "secondary: it is not tested" in said
    monkeypatch.setattr(report_words, "MOST", 2)
    least, middle, most = sorted(table_of(study, SCORE), key=lambda label: table_of(study, SCORE)[label].mean())
    said = answer(study, found, outcome_of(study, found))[-1]
    assert said.index(f"with rank {least};") < said.index(f"with rank {most}; all others")
    assert f"with rank {middle}" not in said
    study = replace(study, metric="clip_score")
    found = read_arms(study)
    assert not [one for one in answer(study, found, outcome_of(study, found)) if "secondary" in one]


def test_the_design_has_the_recipe_of_the_trainings(home):
    study = write_study(home, gain=by_rank)
    notes = {"ss_network_alpha": "16.0", "ss_optimizer": "torch.optim.adamw.AdamW", "ss_learning_rate": "0.001"}
    notes |= {"ss_total_batch_size": "16", "ss_num_epochs": "9", "ss_steps": "68", "ss_epoch": "4"}
    schedule = {"class_path": "Schedule", "init_args": {"shape": "linear", "decay": 0.8, "steps": None}}
    options = {"target_modules": ["to_q", "conv1"], "lr_scheduler": schedule}
    config = {"model": {"class_path": "lightning_modules.StyleLoRA", "init_args": options}}
    for run in study.runs:
        save_file({"a": torch.zeros(1)}, run.adapter, notes | {"ss_network_dim": run.levels["rank"]})
        result = json.loads((run.folder / "result.json").read_text()) | {"epochs": 8, "config": config}
        (run.folder / "result.json").write_text(json.dumps(result))
    facts = design_of(study, read_arms(study)).facts
    want = {"rank": "4 to 64", "alpha": "16", "layers with a LoRA": "to_q conv1", "optimiser": "AdamW"}
    want |= {"learning rate": "0.001", "schedule": "shape linear; decay 0.8", "batch size": "16", "epochs": "9"}
    assert {name: facts[name] for name in want} == want
    assert facts["steps in all"] == "136", "the kept epoch is the fourth of eight, after 68 steps"


def test_an_arm_that_was_trained_for_a_fraction_of_the_others_steps_is_told(home):
    study = write_study(home, gain=by_rank)
    assert "may be one of training length" not in said(study)
    for run in study.runs[:2]:
        save_file({"a": torch.zeros(1)}, run.adapter, {"ss_steps": str(17 * run.seed + 17), "style": "ink"})
    found = read_arms(study)
    heading, rows = arms_table(found, outcome_of(study, found))
    place = heading.index("steps of the kept adapters")
    assert [row[place] for row in rows] == ["-", "17 to 68", "68", "68"]
    assert "may be one of training length" not in said(study), "on average they have more than half of the steps"
    save_file({"a": torch.zeros(1)}, study.runs[2].adapter, {"ss_steps": "17", "style": "ink"})
    assert "from 17 to 34 steps with rank 4 to 68 steps with rank" in said(study)


def test_lists_of_options_are_said_as_they_are_typed(home):
    study = write_study(home, RANK.replace("model.alpha: 4}", "model.target_modules: [to_q, conv1]}"), gain=by_rank)
    assert "model.rank 4, model.target_modules [to_q, conv1]" in repr(design_of(study, read_arms(study)).varied)


def test_arms_that_ended_with_the_same_adapters_are_named(home):
    study = write_study(home, gain=by_rank)
    found = read_arms(study)
    assert "Not told apart" not in repr(answer(study, found, outcome_of(study, found)))
    for run in study.runs:
        if run.levels["rank"] == "64":
            other = next(one for one in study.runs if one.levels["rank"] == "16" and one.seed == run.seed)
            shutil.copy(other.adapter, run.adapter)
            shutil.copytree(other.folder / "test", run.folder / "test", dirs_exist_ok=True)
    found = read_arms(study)
    said = "Not told apart by this study: rank 16 and rank 64 ended, with every training seed, with adapters of equal"
    assert said in repr(answer(study, found, outcome_of(study, found)))


def check_tables(study, folder):
    """The tables for programs hold the numbers of the report."""
    with (folder / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "clip_score"]
    assert len(rows) == 1 + 3 * (1 + 3)
    want = table_of(study, SCORE)
    for row in rows[1:]:
        table = want[row["rank"]]
        mean = table.mean() if row["seed"] == "" else table[int(row["seed"])].mean()
        assert float(row["value"]) == pytest.approx(mean)
        assert (row["seeds"], row["units"], row["primary"]) == ("3", "20", "False")
    record = json.loads((folder / "report.json").read_text())
    differences = outcome_of(study, read_arms(study)).differences
    assert [one["p_holm"] for one in record["differences"]] == [one.p_holm for one in differences]
    assert record["runs"]["rank 16, seed 1"]["pictures"] == "71"
    assert record["scale"] == ["rank 64"]
    assert record["versions"]["code"] == "abc123"


def test_the_matrix_has_the_base_first_and_each_arm_at_one_seed_and_the_same_prompts(home):
    study = write_study(home, gain=by_rank, pictures=True)
    (study.runs[0].folder / "result.json").unlink()  # so that seed 0 is not in all arms
    matrix = matrix_of(read_arms(study))
    assert matrix.seed == 1
    assert matrix.which.startswith("One prompt in 3 is shown")
    assert matrix.prompts == [f"thing {i}" for i in range(0, 18, 3)]
    assert list(matrix.rows) == ["base", "rank 4", "rank 16", "rank 64"]
    shades = {}
    for label, files in matrix.rows.items():
        assert [file.stem.split("-")[1] for file in files] == [str(i) for i in range(0, 18, 3)]
        with Image.open(files[0]) as picture:
            shades[label] = picture.getpixel((0, 0))[0]
    assert shades["base"] == 60
    assert 60 < shades["rank 4"] < shades["rank 16"]
    assert {files[0].parent for label, files in matrix.rows.items() if label != "base"} == {
        run.folder / "test" for run in study.runs if run.seed == 1
    }
    matrix.rows["rank 4"][3].unlink()
    assert matrix_of(read_arms(study)) is None


def test_skill_by_timestep_is_the_share_of_the_loss_removed_at_each(tmp_path):
    losses = {name: noise(name, size=(6, 8)) ** 2 + 0.1 for name in ("base", "ink 1")}
    rows = [
        {"condition": name, "style": "ink", "sha256": str(i), "losses": row.tolist()}
        for name, table in losses.items()
        for i, row in enumerate(table)
    ]
    (tmp_path / "losses.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = skill_by_timestep(tmp_path)
    assert list(found) == ["ink 1"]
    assert [quantity.at for quantity in found["ink 1"]] == [(timestep,) for timestep in BANK_TIMESTEPS]
    for column, one in enumerate(found["ink 1"].values()):
        want = 1 - losses["ink 1"][:, column].sum() / losses["base"][:, column].sum()
        assert one.mean.value == pytest.approx(want)


def test_p_values_are_said_as_papers_do():
    assert [p_is(p) for p in (0.04, 0.00005, 0.00004, 1.0)] == ["p = 0.0400", "p = 0.0001", "p < 0.0001", "p = 1.0000"]


def test_latex_has_as_many_cells_in_each_row_and_no_open_commands(home):
    study = write_study(home, RANK.replace("How large", "100 % of $5 & a_b#1, how large"), gain=by_rank)
    found = read_arms(study)
    text = latex(study, found, outcome_of(study, found))
    assert r"100 \% of \$5 \& a\_b\#1" in text
    for table in re.findall(r"\\begin\{tabular\}\{@\{\}(l+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 3
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(table[0])}
    assert text.count("{") == text.count("}")
    assert tex("[a]") == "{[}a]"
    assert tex("-0.65 (-0.8 to 0.1) <0.0001 \\x~^") == (
        r"$-$0.65 [$-$0.8, 0.1] $<$0.0001 \textbackslash{}x\textasciitilde{}\textasciicircum{}"
    )


def test_what_cannot_be_reported_is_refused(home, monkeypatch):
    study = write_study(home, gain=by_rank)
    write_run(study.runs[4], 0.3, prompts=19)
    with pytest.raises(InputError, match="rank 16 has other prompts or held-out pictures than rank 4"):
        write_report(study, home / "report")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="need matplotlib, which is not installed"):
        write_report(study, home / "report")
    monkeypatch.undo()
    monkeypatch.chdir(home)
    for run in study.runs:
        (run.folder / "result.json").unlink()
    with pytest.raises(InputError, match=r"no run of study.yaml is finished"):
        write_report(study, home / "report")
    assert not (home / "report").exists()
