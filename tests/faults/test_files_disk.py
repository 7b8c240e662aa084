"""Real disks that are full or read-only, real limits on open files, folders that cannot be read."""

import contextlib
import io
import itertools
import json
import os
import resource
import shutil
import subprocess
import tempfile

import pytest
from PIL import Image

from stylelora import files
from stylelora.console.errors import refused_by_the_system
from stylelora.data.reading import read_picture
from stylelora.records import InputError
from tests.faults.refusing import check_sentence, is_whole
from tests.runs import draw_pictures, fit_words, run_cli


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, whose size can be changed, in MiB; or made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")

    def become(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
        return folder

    yield become
    subprocess.run(["umount", "-l", str(folder)], check=True)


def check_left(folder):
    """No half file, and nothing that was only being written."""
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in left if ".partial" in path.name]
    assert all(is_whole(path) for path in left), left
    return {path.name for path in left}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "512k", "3m", "6500k"])
def test_a_disk_that_gets_full_and_then_has_room(disk, tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch, size):
    folder = disk(f"size={size}")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    words = fit_words(tiny_sd, tiny_clip, pictures, folder / "run", f"--data.cache={tmp_path / 'cache'}", epochs=2)
    status, said = run_cli(words)
    assert status != 0
    check_sentence(said, folder, said)
    left = check_left(folder)
    if "result.json" in left:
        result = json.loads((folder / "run" / "result.json").read_text())
        assert result["status"] == "failed" and str(folder) in result["error"]
    assert "result.json" in left or size == "64k"
    disk("size=20m")
    last = folder / "run" / "checkpoints" / "last.ckpt"
    again = ["fit", f"--resume={folder / 'run'}"] if last.is_file() else words
    assert last.is_file() or size != "6500k"
    status, said = run_cli(again)
    assert status == 0, said
    assert {"last.ckpt", "run.safetensors", "run-last.safetensors", "run.md"} <= check_left(folder / "run")
    assert json.loads((folder / "run" / "result.json").read_text())["status"] == "success"


@pytest.mark.slow
def test_a_full_cache_and_a_read_only_folder(disk, tiny_sd, tiny_clip, pictures, tmp_path):
    folder = disk("size=20k")
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "run")
    status, said = run_cli([*words, f"--data.cache={folder / 'cache'}"])
    assert status != 0 and "the disk is full" in said
    check_sentence(said, folder, said)
    check_left(folder)
    check_left(tmp_path / "run")
    disk("ro")
    status, said = run_cli([*words, f"--trainer.default_root_dir={folder / 'run'}"])
    assert status != 0
    check_sentence(said, folder, said)


def limit_with(free):
    """Return the limit under which so many files can still be opened."""
    used = set(map(int, os.listdir("/proc/self/fd")))
    unused = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(unused, free, None))


@pytest.mark.slow
def test_too_many_open_files(tiny_sd, tiny_clip, pictures, tmp_path):
    """With few that may be opened besides those that are; the first run opens what stays open."""
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "first"))[0] == 0
    limits, ended = resource.getrlimit(resource.RLIMIT_NOFILE), []
    for more in (0, 1, 3, 5, 40):
        folder = tmp_path / f"run {more}"
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit_with(more), limits[1]))
        try:
            status, said = run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        ended.append(status)
        assert status == 0 or (said.strip().split("\n")[-1].startswith("error: ") and "Traceback" not in said), said
        assert status == 0 or "oo many" in said, said
        check_left(folder)
    assert 0 in ended and 1 in ended


@contextlib.contextmanager
def unreadable(folder, monkeypatch):
    """Take the right to read a folder away; root has it always, so it is told that it has not."""
    if os.geteuid():
        folder.chmod(0)
        yield
        folder.chmod(0o700)
        return
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        yield


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
    draw_pictures(tmp_path / "masks" / "inner", 1)
    (tmp_path / "masks" / "a.png").touch()
    assert [path.name for path in files.files_below(tmp_path / "masks")] == ["a.png", "0.bmp", "0.txt"]
    with unreadable(tmp_path / "masks" / "inner", monkeypatch), pytest.raises(PermissionError) as found:
        files.files_below(tmp_path / "masks")
    assert f"access to {tmp_path / 'masks' / 'inner'} is denied" in refused_by_the_system(found.value)


def test_a_picture_is_not_blamed_for_a_machine_without_room(tmp_path, monkeypatch):
    """Reading a TIFF needs a temporary file."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())

    def full(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    assert read_picture(tmp_path / "a.tif").image.size == (8, 8)
    with monkeypatch.context() as patch, pytest.raises(FileNotFoundError) as found:
        patch.setattr(tempfile, "TemporaryFile", full)
        read_picture(tmp_path / "a.tif")
    assert "make room in one of them" in refused_by_the_system(found.value)
    (tmp_path / "b.tif").write_bytes(buffer.getvalue()[:40])
    with pytest.raises(InputError, match=r"b\.tif"):
        read_picture(tmp_path / "b.tif")
