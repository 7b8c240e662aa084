"""Walking a source folder: every file gets a verdict, and nothing makes the walk hang or stop."""

import os
import signal
import subprocess
from contextlib import contextmanager

import pytest

from stylelora.preprocess.find import find_files
from stylelora.records import InputError
from tests.hostile import make_hostile_folder


@contextmanager
def within(seconds):
    """Fail instead of hanging."""

    def fail(*_):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_every_file_of_the_hostile_folder_gets_its_verdict(tmp_path):
    expected = make_hostile_folder(tmp_path)
    with within(20):
        found = {one.path.relative_to(tmp_path).as_posix(): one for one in find_files(tmp_path)}
    assert found.keys() == expected.keys()
    for name, (verdict, fragment) in expected.items():
        kind = verdict if verdict in ("skipped", "ignored", "caption") else "picture"
        assert found[name].kind == kind, name
        assert (fragment in found[name].reason) if kind in ("skipped", "ignored") else not found[name].reason, name


def test_no_file_is_lost(tmp_path):
    make_hostile_folder(tmp_path)
    skipped = {one.path for one in find_files(tmp_path) if "not searched" in one.reason}
    below = {os.path.join(folder, name) for folder, _, names in os.walk(tmp_path) for name in names}
    assert {path for path in below if not any(path.startswith(f"{one}/") for one in skipped)} <= {
        str(one.path) for one in find_files(tmp_path)
    }


def test_the_order_is_that_of_the_relative_paths(tmp_path):
    make_hostile_folder(tmp_path)
    found = find_files(tmp_path)
    names = [one.path.relative_to(tmp_path).as_posix() for one in found]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    assert found == find_files(str(tmp_path))


@pytest.fixture
def bottomless(tmp_path):
    """A folder whose removal is left neither to shutil, which recurses, nor to pytest, which uses that."""
    yield tmp_path / "top"
    subprocess.run(["rm", "-rf", tmp_path / "top"], check=True)


def descend(folder, name, levels):
    """Make folders below one another and return a handle of the last."""
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        folder, above = os.open(name, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    return folder


def test_folders_below_one_another_without_end(bottomless):
    bottomless.mkdir()
    deep = descend(os.open(bottomless, os.O_RDONLY), "d", 1500)  # deeper than Python recurses
    os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    assert [(one.kind, one.path.name) for one in find_files(bottomless)] == [("picture", "a.png")]
    os.close(descend(deep, "e" * 250, 10))  # deeper than a path may be long
    picture, too_deep = sorted(find_files(bottomless), key=lambda one: one.kind)
    assert (picture.path.name, too_deep.kind) == ("a.png", "skipped")
    assert "folder that cannot be read (File name too long)" in too_deep.reason


def test_what_cannot_be_walked_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "empty" / "emptier").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "gone": "does not exist",
        "a.png": "is no folder",
        "empty": "is empty",
        "loop": "is no folder",
    }.items():
        with pytest.raises(InputError, match=f"{name} .*{reason}"):
            find_files(tmp_path / name)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    """By a stand-in, since permissions do not stop the superuser."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").write_bytes(b"")
    scandir, locked = os.scandir, {tmp_path / "locked"}

    def refuse(folder):
        if folder in locked:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    picture, skipped = find_files(tmp_path)
    assert (picture.kind, skipped.kind) == ("picture", "skipped")
    assert skipped.reason == "folder that cannot be read (Permission denied)"
    locked.add(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); give another"):
        find_files(tmp_path)


def test_a_folder_may_be_given_by_a_symlink(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    assert [one.path for one in find_files(tmp_path / "link")] == [tmp_path / "link" / "a.png"]
