"""Checkpoints are one file, whole or not at all; whatever else is given as one is refused, and runs nothing."""

import io
import os
import random
import re
import tempfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from callbacks.own_files import CheckpointFiles
from stylelora.files import check_local
from stylelora.records import InputError
from stylelora.runs.checkpoint import read_checkpoint, save_checkpoint
from stylelora.studies.check import parser_alone
from tests.runs import ROOT, one_sentence, run_cli

STATE = {
    "epoch": 1,
    "global_step": 12,
    "pytorch-lightning_version": "2.6.0",
    "state_dict": {"unet.lora_A": torch.arange(600.0).reshape(20, 30), "unet.lora_B": torch.zeros(30, 20)},
    "hyper_parameters": {"rank": 20, "base": "mini"},
}


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    CheckpointFiles().save_checkpoint(STATE, path)
    return path


def test_what_is_written_is_read_by_us_by_torch_and_by_zip_tools(checkpoint):
    assert same(CheckpointFiles().load_checkpoint(checkpoint), STATE)
    assert same(torch.load(checkpoint, weights_only=True), STATE)
    assert zipfile.ZipFile(checkpoint).testzip() is None
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    assert checkpoint.stat().st_size < len(buffer.getvalue()) + 150
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]
    CheckpointFiles().remove_checkpoint(checkpoint)
    CheckpointFiles().remove_checkpoint(checkpoint)
    assert not checkpoint.exists()


def test_one_of_plain_lightning_is_read(tmp_path):
    torch.save(STATE, tmp_path / "theirs.ckpt")
    assert same(read_checkpoint(tmp_path / "theirs.ckpt"), STATE)


def test_it_is_written_beside_its_place_whatever_tmpdir_is(tmp_path, monkeypatch, checkpoint):
    before = checkpoint.read_bytes()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    moved, replace = [], os.replace

    def watch(source, target):
        moved.append(os.path.dirname(source))
        assert checkpoint.read_bytes() == before, "the older one stays until the new one is whole"
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    save_checkpoint(STATE | {"epoch": 2}, checkpoint)
    assert moved == [str(checkpoint.parent)] and read_checkpoint(checkpoint)["epoch"] == 2


@pytest.mark.parametrize("hashed", [True, False], ids=["ours", "without a hash"])
def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path, hashed):
    path = tmp_path / "last.ckpt"
    save_checkpoint(STATE, path) if hashed else torch.save(STATE, path)
    whole, drawn, noticed = path.read_bytes(), random.Random(0), 0
    for place in {*drawn.sample(range(len(whole)), 150), *range(8), *range(len(whole) - 8, len(whole))}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << drawn.randrange(8)]) + whole[place + 1 :])
        try:
            assert same(read_checkpoint(path), STATE)
        except InputError as error:
            noticed += 1
            assert "\n" not in str(error)
    assert noticed > (160 if hashed else 100)


@pytest.mark.parametrize("hashed", [True, False], ids=["ours", "without a hash"])
def test_every_cut_is_noticed(tmp_path, hashed):
    path = tmp_path / "last.ckpt"
    save_checkpoint(STATE, path) if hashed else torch.save(STATE, path)
    whole = path.read_bytes()
    for length in [*range(1, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"^\S+last.ckpt is (damaged|not a checkpoint)"):
            read_checkpoint(path)


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


WRONG = {
    "nothing": (lambda path: None, "there is no checkpoint"),
    "folder": (lambda path: path.mkdir(), "is a folder; give a checkpoint, such as"),
    "run": (
        lambda path: save_checkpoint(STATE, path / "checkpoints/last.ckpt"),
        "is a folder; .*checkpoints/last.ckpt$",
    ),
    "fifo": (os.mkfifo, "there is no checkpoint"),
    "link to itself": (lambda path: path.symlink_to(path), "there is no checkpoint"),
    "empty": (lambda path: path.touch(), "is empty; train again"),
    "LoRA": (lambda path: save_file({"a": torch.ones(1)}, path), "is a LoRA, .*--model.init_from"),
    "text": (lambda path: path.write_text("hello"), "is not a checkpoint of fit, or its beginning is damaged"),
    "zip": (lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), "is (not a checkpoint of fit|damaged)"),
    "weights": (lambda path: torch.save({"a": torch.ones(1)}, path), "is not a checkpoint of fit; give"),
    "list": (lambda path: torch.save([1], path), "is not a checkpoint of fit; give"),
    "old format": (
        lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        "is not a checkpoint of fit, or its beginning",
    ),
    "code": (lambda path: torch.save(STATE | {"x": Evil(path.with_name("trace"))}, path), "could run code"),
    "code, hashed": (
        lambda path: save_checkpoint(STATE | {"x": Evil(path.with_name("trace"))}, path),
        "could run code",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, kind):
    write, said = WRONG[kind]
    write(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=said) as found:
        read_checkpoint(tmp_path / "last.ckpt")
    assert "\n" not in str(found.value) and str(tmp_path / "last.ckpt") in str(found.value)
    assert not (tmp_path / "trace").exists()


def test_a_zip_that_grows_when_it_is_opened_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data/0", b"\0" * 10**6)
    with pytest.raises(InputError, match="is damaged"):
        read_checkpoint(path)


REMOTE = [
    *("http://x.org/a.ckpt", "https://x.org/a.ckpt", "s3://b/a.ckpt", "memory://a.ckpt", "file:///tmp/a.ckpt"),
    *("zip::s3://b/a", "simplecache::http://x.org/a.ckpt", "github://o:r@/a.ckpt", "gs://b/a", "hf://a/b", "data:/x"),
]


@pytest.mark.parametrize("url", REMOTE)
def test_another_machine_is_not_asked(url, monkeypatch):
    import fsspec

    monkeypatch.setattr(fsspec.core, "url_to_fs", None)  # whoever asks fails otherwise
    own = CheckpointFiles()
    for use in (own.load_checkpoint, own.remove_checkpoint, lambda path: own.save_checkpoint(STATE, path)):
        with pytest.raises(InputError, match=r"is no local file; copy it to this machine"):
            use(url)
    for verb in ("fit", "validate"):
        status, said = run_cli([verb, "--ckpt_path", url])
        one_sentence(status, said)
        assert "no local file" in said


@pytest.mark.parametrize("path", ["a.ckpt", "/a/b:c/d.ckpt", "a:b", "C:\\runs\\last.ckpt", "run 1/a::b.ckpt", "./x:/y"])
def test_a_local_name_with_colons_is_a_name(path):
    assert str(check_local(path)) == os.path.normpath(path)


def test_classes_that_a_checkpoint_names_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nclass Evil: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"class_path": "evil_module.Evil", "init_args": {}}
    hyper = {"_class_path": "evil_module.Evil", "_instantiator": "evil_module.Evil", "optimizer": names}
    path = tmp_path / "last.ckpt"
    save_checkpoint(STATE | {"hyper_parameters": hyper, "datamodule_hyper_parameters": hyper}, path)
    words = ["validate", f"--config={ROOT / 'configs' / 'quickstart.yaml'}", f"--ckpt_path={path}"]
    config = parser_alone()(words, args=words).config.validate
    assert config.model.class_path == "lightning_modules.StyleLoRA"
    assert not re.search("evil", str(config.model))
    assert not (tmp_path / "trace").exists()


def test_a_damaged_one_is_refused_before_anything_is_loaded(checkpoint, monkeypatch):
    import lightning.pytorch.cli

    def loads(*_):
        raise AssertionError("too late")

    monkeypatch.setattr(lightning.pytorch.cli.LightningCLI, "instantiate_classes", loads)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    words = [f"--config={ROOT / 'configs' / 'quickstart.yaml'}", f"--ckpt_path={checkpoint}"]
    status, said = run_cli(["fit", *words])
    one_sentence(status, said)
    assert f"{checkpoint} is damaged" in said
