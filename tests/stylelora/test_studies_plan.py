"""What a study's file says, and the runs that come of it."""

import pytest
import yaml

from stylelora.records import InputError
from stylelora.runs.folder import run_folder
from stylelora.studies.plan import STUDIES, named, write_configs
from stylelora.studies.reading import read_study, set_option
from tests.runs import ROOT

RANKS = {"question": "Does the rank\nmatter?", "base": "configs/train/mini/watercolor.yaml"}
RANKS |= {"factors": {"model.rank": [4, 16]}, "test": "configs/evaluate/watercolor_mini.yaml"}


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a study of ranks with some fields changed; None takes a field away."""
    monkeypatch.chdir(ROOT)

    def write_and_read(name="ranks/study.yaml", **more):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        fields = {key: value for key, value in (RANKS | more).items() if value is not None}
        file.write_text(yaml.safe_dump(fields, sort_keys=False))
        return read_study(file)

    return write_and_read


def flat(value, name=""):
    """Leaves of settings by their path."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for one, inner in value.items() for key, leaf in flat(inner, f"{name}/{one}").items()}


def test_runs_differ_in_the_leaves_of_their_factors_and_the_seed_only(read):
    factors = {"model.optimizer.lr": [1.0e-4, 1.0e-3], "alpha": {"4": {"model.rank": 4, "model.alpha": 4.0}}}
    study = read(factors=factors, seeds=[3, 7])
    base = flat(yaml.safe_load((ROOT / RANKS["base"]).read_text()))
    for run in study.runs:
        own = flat(run.config)
        assert {key: value for key, value in own.items() if base.get(key, "none") != value} == {
            "/seed_everything": run.seed,
            "/model/init_args/rank": 4,
            "/model/init_args/alpha": 4.0,
            **({} if run.levels["lr"] == "0.001" else {"/model/init_args/optimizer/init_args/lr": 1.0e-4}),
        }
        assert base.keys() <= own.keys()
    labels = [f"lr {lr}, alpha 4, seed {seed}" for lr in ("0.0001", "0.001") for seed in (3, 7)]
    assert [run.label for run in study.runs] == labels
    assert study.arms == [{"lr": "0.0001", "alpha": "4"}, {"lr": "0.001", "alpha": "4"}]
    assert len({run.folder for run in study.runs}) == 4


def test_a_run_is_a_config_that_says_where_it_works(read, tmp_path):
    study = read(seeds=2, options={"trainer.max_epochs": 2})
    assert study.question == "Does the rank matter?"
    files = write_configs(study, tmp_path)
    assert [file.name for file in files] == [f"rank_{rank}_seed_{seed}.yaml" for rank in (4, 16) for seed in (0, 1)]
    for file, run in zip(files, study.runs, strict=True):
        assert yaml.safe_load(file.read_text()) == run.config
        assert run.config["trainer"]["max_epochs"] == 2
        assert file.read_text().startswith(f"# {run.label}\n")
        assert run.file == run.folder.with_name(f"{run.folder.name}.yaml")
        assert run.folder.parent == STUDIES / "ranks"
        assert run_folder(run.file, ROOT / "configs") == run.folder, "so `fit --config` works there by itself"


def test_each_run_is_tested_alone_or_those_of_a_factor_together(read):
    study = read(seeds=2)
    assert [(test.folder, test.runs) for test in study.tests] == [(run.folder / "test", [run]) for run in study.runs]
    factors = {"style": {"a": {"data.flip": True}, "b": {"data.flip": False}}, "model.rank": [4, 16]}
    study = read(factors=factors, together="style")
    assert [test.folder for test in study.tests] == [STUDIES / "ranks" / f"rank_{rank}_seed_0/test" for rank in (4, 16)]
    assert [[run.label for run in test.runs] for test in study.tests] == [
        [f"style {style}, rank {rank}, seed 0" for style in ("a", "b")] for rank in (4, 16)
    ]
    assert study.runs[0].adapter.name == "a.safetensors", "tests name adapters as the level is called"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("all", ("all", {}, "")),
        ("trend", ("trend", {}, "rank")),
        ({"trend": "rank"}, ("trend", {}, "rank")),
        ({"against": 16}, ("against", {"rank": "16"}, "")),
        ({"against": {"rank": 16}}, ("against", {"rank": "16"}, "")),
    ],
)
def test_arms_are_compared_as_stated(read, given, found):
    study = read(compare=given)
    assert (study.compare, study.against, study.trend) == found


def test_one_study_is_like_another_but_for_what_it_says(read):
    first = read(seeds=2, hypotheses=["It does."])
    other = dict.fromkeys(RANKS) | {"like": "study.yaml", "factors": {"model.rank": [64]}}
    second = read("ranks/study_large.yaml", **other)
    assert (second.name, second.folder) == ("ranks_large", STUDIES / "ranks_large")
    assert (second.question, second.hypotheses, second.seeds) == (first.question, ["It does."], [0, 1])
    assert [run.levels for run in second.runs] == [{"rank": "64"}] * 2
    assert read("ranks/own.yaml").name == "own"


def test_options_find_their_place_in_classes():
    config = {
        "model": {"class_path": "A", "init_args": {"optimizer": {"class_path": "B"}}},
        "data": {"class_path": "C"},
    }
    for option in ("model.optimizer.lr", "model.objective.loss", "data.class_path", "trainer.max_epochs"):
        set_option(config, option, option)
    assert config == {
        "model": {
            "class_path": "A",
            "init_args": {
                "optimizer": {"class_path": "B", "init_args": {"lr": "model.optimizer.lr"}},
                "objective": {"loss": "model.objective.loss"},
            },
        },
        "data": {"class_path": "data.class_path"},
        "trainer": {"max_epochs": "trainer.max_epochs"},
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"question": None}, "has no question"),
        ({"facters": {}}, "'facters', which studies do not know, did you mean 'factors'"),
        ({"factors": {"rank": [4, 16]}}, "level 4 of factor rank sets no option; .* such as model.rank"),
        ({"factors": [4]}, "is not as it should be"),
        ({"factors": {"model.rank": [4, "4"]}}, "two levels of factor rank are called 4"),
        ({"factors": {"model.a": [4], "data.a": [4]}}, "two factors are called a"),
        ({"factors": {"n": {"a/b": {"data.a": 1}, "a b": {"data.a": 2}}}}, "two runs have the same name"),
        ({"seeds": [0, 0]}, "without repetitions"),
        ({"seeds": 0}, "give a number of seeds"),
        ({"seeds": ["x"]}, "is not as it should be"),
        ({"margin": -1}, "margin is -1; give a number above 0"),
        ({"together": "style"}, "together is style, which is no factor; choose from rank"),
        ({"like": "study.yaml"}, "is like itself"),
        ({"factors": {"set": {"test": {"data.flip": True}}}, "together": "set"}, "a level of set is called test"),
        ({"compare": "some"}, "compare is some; give all, trend, or against"),
        ({"compare": "against"}, "compare is against; give all, trend, or against"),
        ({"compare": {"against": 8}}, "names rank 8, which is none of the arms"),
        ({"compare": {"trend": "size"}}, "names size, which is no factor of the arms; choose from rank"),
        ({"compare": {"against": {"method": "sum"}}}, "names method sum, which is none of the arms"),
        ({"together": "rank", "compare": {"against": {"rank": 4}}}, "names rank 4, which is none of the arms"),
        ({"together": "rank", "compare": "trend"}, "names method, which is no factor of the arms$"),
        ({"base": "configs/none.yaml"}, r"configs.none\.yaml cannot be read"),
        ({"test": "configs/none.yaml"}, r"configs.none\.yaml cannot be read"),
    ],
)
def test_what_is_wrong_with_a_study_is_said_in_one_sentence(read, more, said):
    with pytest.raises(InputError, match=said) as error:
        read(**more)
    assert "\n" not in str(error.value)


def test_arms_of_one_test_are_compared_with_one_of_its_conditions(read):
    assert read(together="rank", compare={"against": "sum"}).against == {"method": "sum"}
    assert read(together="rank", compare={"against": {"adapters": "a 1"}}).against == {"adapters": "a 1"}


def test_a_comparison_among_several_factors_names_its_own(read):
    with pytest.raises(InputError, match="there are 2 factors; name one of them"):
        read(factors={"model.rank": [4, 16], "data.flip": [True, False]}, compare="trend")
    study = read(factors={"model.rank": [4, 16], "data.flip": [True, False]}, compare={"against": {"flip": True}})
    assert named(study.against) == "flip true"
