"""What the command line would refuse is refused before the first run of a study starts."""

import os

import pytest
import yaml

from stylelora.records import InputError
from stylelora.studies.check import check_configs
from stylelora.studies.reading import read_study
from tests.small_study import write_study


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"factors": {"model.rnak": [2]}}, "rnak 2, seed 0: StyleLoRA has no option 'rnak', did you mean 'rank'"),
        ({"factors": {"model.rank": [2, "x"]}}, "rank x, seed 0: model.rank is x; give a whole number"),
        ({"factors": {"data.class_path": ["datamodules.Foo"]}}, "seed 0: there is no class datamodules.Foo"),
        ({"options": {"trainer.max_epochs": "many"}}, "trainer.max_epochs is many"),
        ({"metric": "atainment"}, "there is no metric atainment, did you mean 'attainment'?"),
    ],
)
def test_a_refused_arm_is_named(tmp_path, monkeypatch, fields, said):
    monkeypatch.chdir(tmp_path)
    study = read_study(write_study(tmp_path / "base", tmp_path / "scorer", tmp_path / "pictures", tmp_path, **fields))
    before = sorted(tmp_path.rglob("*")), dict(os.environ)
    with pytest.raises(InputError) as error:
        check_configs(study)
    assert said in str(error.value) and str(study.file) in str(error.value)
    assert "\n" not in str(error.value)
    assert (sorted(tmp_path.rglob("*")), dict(os.environ)) == before, "nothing is written"


def test_weights_for_other_adapters_than_a_test_has_are_refused(tmp_path):
    file = write_study(tmp_path / "base", tmp_path / "scorer", tmp_path / "pictures", tmp_path, together="rank")
    with pytest.raises(InputError, match=r"test\.yaml has 1 weights for a blend, but .* the adapters of 2 runs"):
        check_configs(read_study(file))


def test_a_test_of_nothing_is_refused(tmp_path):
    """Parsed, it would be refused after all trainings only."""
    file = write_study(tmp_path / "base", tmp_path / "scorer", tmp_path / "pictures", tmp_path)
    config = yaml.safe_load((tmp_path / "test.yaml").read_text())
    for name in ("weights", "methods", "strengths", "guidance_scales"):
        changed = config | {"model": config["model"] | {"init_args": config["model"]["init_args"] | {name: []}}}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(InputError, match=rf"test\.yaml has no {name}; give one at least"):
            check_configs(read_study(file))


def test_a_test_that_is_refused_is_named(tmp_path):
    file = write_study(tmp_path / "base", tmp_path / "scorer", tmp_path / "pictures", tmp_path)
    test = tmp_path / "test.yaml"
    test.write_text(test.read_text().replace("weights", "wieghts"))
    with pytest.raises(InputError, match="its test: ComposedStyles has no option 'wieghts', did you mean 'weights'"):
        check_configs(read_study(file))
