"""Files are there whole or not at all, whatever the system refuses, and the same content has the same bytes."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from stylelora import files
from stylelora.console.errors import refused_by_the_system
from stylelora.data.images import check_png
from stylelora.records import InputError

CODES = [
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EMFILE,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.EFBIG,
]
STEPS = [(os, "fsync"), (os, "replace"), (Path, "open"), (Path, "mkdir")]


def refuse(monkeypatch, place, code):
    """Let one call of the operating system fail as it does, without a path."""

    def refused(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*place, refused)


def write_file(path):
    files.write(path / "new.txt", "new")


def write_folder(path):
    with files.new_folder(path / "new") as folder:
        files.write(folder / "inside.txt", "new")


@pytest.mark.parametrize("place", STEPS, ids=lambda place: place[1])
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("writing", [write_file, write_folder])
def test_whatever_fails_leaves_nothing_behind_and_is_one_sentence_with_the_path(
    tmp_path, monkeypatch, writing, code, place
):
    target = tmp_path / "a" / "b"
    with monkeypatch.context() as patch, pytest.raises(OSError) as found:
        refuse(patch, place, code)
        writing(target)
    said = refused_by_the_system(found.value)
    assert str(target / "new") in said and files.PARTIAL not in said and "\n" not in said
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("place", STEPS[:3], ids=lambda place: place[1])
def test_whatever_fails_leaves_the_older_file(tmp_path, monkeypatch, place):
    (tmp_path / "new.txt").write_text("old")
    with monkeypatch.context() as patch, pytest.raises(OSError):
        refuse(patch, place, errno.ENOSPC)
        write_file(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("new.txt", "old")]
    write_file(tmp_path)
    assert (tmp_path / "new.txt").read_text() == "new"


def test_files_of_a_folder_take_their_places_among_others(tmp_path):
    files.write(tmp_path / "a" / "old.txt", "old")
    files.write(tmp_path / "a" / "part" / "0.txt", "old")
    for stop in (True, False):
        with contextlib.suppress(KeyboardInterrupt), files.new_folder(tmp_path / "a", among_others=True) as folder:
            files.write(folder / "part" / "0.txt", "new")
            if stop:
                raise KeyboardInterrupt
        assert (tmp_path / "a" / "part" / "0.txt").read_text() == ("old" if stop else "new")
    assert (tmp_path / "a" / "old.txt").read_text() == "old" and [*tmp_path.iterdir()] == [tmp_path / "a"]


def test_an_error_while_the_content_is_made_leaves_the_older_file(tmp_path):
    (tmp_path / "new.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "new.txt") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(UnicodeEncodeError):
        files.write(tmp_path / "new.txt", "\ud800")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_name_may_be_as_long_as_names_may_be(tmp_path):
    files.write(tmp_path / ("n" * 255), "whole")
    for writing in (lambda path: files.write(path, ""), files.check_writable):
        with pytest.raises(OSError) as found:
            writing(tmp_path / ("n" * 256))
        assert "the name of" in refused_by_the_system(found.value)
    assert len([*tmp_path.iterdir()]) == 1


def test_a_limit_on_the_size_of_files_spares_the_older_file_and_the_log(tmp_path):
    """In a process of its own, whose limit is real: half of what is written would fit."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "log").write_text("first\n")
    code = f"""
import resource
from stylelora import files
from stylelora.console.errors import refused_by_the_system
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for writing, name in ((files.write, "old"), (files.append, "log")):
    try:
        writing("{tmp_path}/" + name, "x" * 2000)
    except OSError as error:
        print(refused_by_the_system(error))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = [f"{tmp_path}/{name} would be larger than a file may be here" for name in ("old", "log")]
    assert [line.partition(";")[0] for line in run.stdout.splitlines()] == said
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "old", "log": "first\n"}
    files.append(tmp_path / "log", "second\n")
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "file" / "new.txt", "is a file")):
        with pytest.raises(OSError) as found:
            files.check_writable(path)
        assert said in refused_by_the_system(found.value)
    files.check_writable(tmp_path / "a" / "b")
    with pytest.raises(InputError, match=r"ends in \.png"):
        check_png(tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_old_leftovers_are_removed(tmp_path):
    for name in (".a.partial", ".b.partial", "whole"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".a.partial", (time.time() - 7200,) * 2)
    files.remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.partial", "whole"]


def test_a_sentence_of_our_own_stands_before_the_systems_unless_the_machine_is_at_fault():
    ours = InputError("this base is damaged; download it again")
    ours.__cause__ = OSError(errno.EACCES, "denied")
    assert refused_by_the_system(ours) is None
    ours.__cause__ = OSError("cannot load")  # diffusers' own, raised while it looked into what safetensors had raised
    ours.__cause__.__context__ = RuntimeError("unable to open file <a> in read-only mode: Too many open files (24)")
    assert "ulimit -n" in refused_by_the_system(ours)
    ours.__cause__ = OSError(errno.ENOSPC, "full")
    assert "the disk is full" in refused_by_the_system(ours)
    ours.__cause__.__context__ = RuntimeError("raised again from what it led to")
    ours.__cause__.__context__.__cause__ = ours.__cause__  # a circle, as of a full disk in the middle of a sample
    assert "the disk is full" in refused_by_the_system(ours)
    assert refused_by_the_system(ValueError("no relation")) is None
    assert "ulimit -n" in refused_by_the_system(RuntimeError("Too many open files. Communication is over"))


TENSORS = {"b": torch.ones(3), "ä": torch.zeros(2, 5, dtype=torch.float16), "c": torch.ones(1, dtype=torch.bfloat16)}
NOTES = {name: f'{name} \N{SNOWMAN} \n"\\\x01' for name in "zyxwabcdefgh"}


def test_safetensors_are_as_the_library_writes_them_but_for_the_order_of_the_notes(tmp_path):
    content = files.safetensors_bytes(dict(reversed(TENSORS.items())), NOTES)
    size = int.from_bytes(content[:8], "little")
    theirs = save(TENSORS, NOTES)
    assert json.loads(content[8 : 8 + size]) == json.loads(theirs[8 : 8 + int.from_bytes(theirs[:8], "little")])
    assert [*json.loads(content[8 : 8 + size])["__metadata__"]] == sorted(NOTES)
    assert size % 8 == 0 and content[8 + size :] == theirs[8 + int.from_bytes(theirs[:8], "little") :]
    files.write(tmp_path / "a.safetensors", content)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == NOTES
    assert all(torch.equal(one, TENSORS[name]) for name, one in load(content).items())
    assert files.safetensors_bytes(TENSORS, {}) == save(TENSORS)


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_in_every_process(tmp_path):
    code = """
import sys, torch
from stylelora.data.cache import write
from stylelora.lora.factors import Layer
from stylelora.lora.write import write_lora
from pathlib import Path
folder, notes = Path(sys.argv[1]), {name: name for name in {*"abcdefghijk"}}
drawn = torch.Generator().manual_seed(0)
names = [f"down_blocks.{i}.attentions.0.transformer_blocks.0.attn1.to_q" for i in {0, 1, 2}]
layers = {name: Layer(torch.randn(2, 8, generator=drawn), torch.randn(8, 2, generator=drawn), 2.0) for name in names}
for form in ("kohya", "diffusers"):
    write_lora(folder / f"{form}.safetensors", layers, notes, form)
write_lora(folder / "peft", layers, notes, "peft")
write(folder / "entry.safetensors", {"mean": layers[names[0]].up, "std": layers[names[0]].down})
"""
    found = []
    for seed in ("0", "1"):
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        hashes = {
            path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        found.append(hashes)
    assert found[0] == found[1] and len(found[0]) == 5
