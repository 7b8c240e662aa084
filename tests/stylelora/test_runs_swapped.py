"""A class of the command line has its own defaults, not options that a config gave another."""

import pytest
from jsonargparse import Namespace

from stylelora.runs.swapped import own_defaults

CONFIG = """
model:
  class_path: lightning_modules.StyleLoRA
  init_args:
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-4, weight_decay: 0.3}}
"""


def parsed(tmp_path, kind, **options):
    """What the parser makes of another class over the config: options of the same names stay."""
    (tmp_path / "run.yaml").write_text(CONFIG)
    optimizer = Namespace(class_path=kind, init_args=Namespace(**{"lr": 1.0e-4, "weight_decay": 0.3, **options}))
    model = Namespace(init_args=Namespace(optimizer=optimizer, lr_scheduler=None))
    return Namespace(model=model, config=[tmp_path / "run.yaml"]), optimizer


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.optimizer", "torch.optim.NAdam"], (2.0e-3, 0)),
        (["--model.optimizer=torch.optim.NAdam", "--model.optimizer.lr=1.0e-4"], (1.0e-4, 0)),
        (["--model.optimizer=torch.optim.NAdam", "--model.optimizer.init_args.weight_decay", "0.3"], (2.0e-3, 0.3)),
        (['--model.optimizer={"class_path": "torch.optim.NAdam"}'], (1.0e-4, 0.3)),
        (["--model.rank=3"], (1.0e-4, 0.3)),
    ],
)
def test_another_class_has_its_own_defaults(tmp_path, capsys, words, expected):
    config, optimizer = parsed(tmp_path, "torch.optim.NAdam")
    own_defaults(config, words)
    assert (optimizer.init_args.lr, optimizer.init_args.weight_decay) == expected
    changed = expected != (1.0e-4, 0.3)
    assert ("options of torch.optim.AdamW do not apply" in capsys.readouterr().err) == changed


def test_the_same_class_keeps_what_the_config_says(tmp_path, capsys):
    config, optimizer = parsed(tmp_path, "torch.optim.AdamW")
    own_defaults(config, ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=1.0e-4"])
    assert (optimizer.init_args.lr, optimizer.init_args.weight_decay) == (1.0e-4, 0.3)
    assert capsys.readouterr().err == ""
