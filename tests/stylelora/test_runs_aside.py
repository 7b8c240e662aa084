"""An earlier run in a folder is kept, wherever the folder is."""

import os

import pytest

from stylelora.records import InputError
from stylelora.runs import aside
from stylelora.runs.aside import keep_copy, set_aside
from stylelora.runs.lock import owned


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{folder.name} {name}")
    return folder


def tree(folder):
    """Files by their place, as far as they are not locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".owner.json"))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


RUN = ("config.yaml", "result.json", "checkpoints/last.ckpt", "samples/a.png", "x.safetensors", "x.md", "notes.txt")


def test_a_run_is_moved_as_a_whole_and_the_folder_stays(tmp_path, capsys):
    folder = write(tmp_path / "x", *RUN)
    before, inode = tree(folder), folder.stat().st_ino
    with owned(folder):
        set_aside(folder)
        assert tree(folder) == {} and tree(tmp_path / "x.1") == before
        write(folder, "config.yaml")
        set_aside(folder)
        with pytest.raises(InputError), owned(folder):  # still the first's: the lock did not move
            pass
    assert (sorted(path.name for path in tmp_path.iterdir()), folder.stat().st_ino) == (["x", "x.1", "x.2"], inode)
    assert f"{folder} held an earlier run, which is now in {tmp_path / 'x.1'}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["result.json", "config.yaml", "x.safetensors", "checkpoints/last.ckpt"])
def test_whatever_a_run_left_is_kept(name, tmp_path):
    set_aside(write(tmp_path / "x", name))
    assert tree(tmp_path / "x.1").keys() == {name}


def test_other_files_are_no_run(tmp_path):
    folder = write(tmp_path / "x", "holiday.png", "samples/a.png")
    set_aside(folder)
    assert tree(folder).keys() == {"holiday.png", "samples/a.png"}


@pytest.mark.parametrize("here", [".", "below"])
def test_in_the_current_folder_only_what_a_run_wrote_is_moved(here, tmp_path, monkeypatch, capsys):
    folder = write(tmp_path / "x", *RUN, "cli.py", ".git/HEAD", "README.md", "below/b.txt")
    before = tree(folder)
    monkeypatch.chdir(folder / here)
    for _ in (1, 2):
        set_aside(folder if here == "below" else type(folder)("."))
        write(folder, "config.yaml")
    left = {"cli.py", ".git/HEAD", "README.md", "below/b.txt", "notes.txt", "config.yaml"}
    moved = {f"earlier.1/{name}" for name in before.keys() - left | {"config.yaml"}} | {"earlier.2/config.yaml"}
    assert tree(folder).keys() == left | moved
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert str(folder / "earlier.1") in capsys.readouterr().err


def test_a_mount_point_and_a_home_keep_their_other_files(tmp_path, monkeypatch):
    for name, what in (("disk", "ismount"), ("home", "home")):
        folder = write(tmp_path / name, "config.yaml", "lost+found/a", "b")
        if what == "ismount":
            monkeypatch.setattr(os.path, "ismount", lambda path, folder=folder: str(path) == str(folder))
        else:
            monkeypatch.setattr(aside.Path, "home", lambda folder=folder: folder)
        set_aside(folder)
        assert tree(folder).keys() == {"earlier.1/config.yaml", "lost+found/a", "b"}


def test_where_nothing_can_be_moved_out_of_the_folder_it_is_moved_within(tmp_path, monkeypatch):
    """As with a volume of a container that is on the same disk."""
    folder, move = write(tmp_path / "x", *RUN), type(tmp_path).rename

    def rename(path, target):
        if target.parent.parent == tmp_path:
            raise OSError(aside.errno.EXDEV, "Invalid cross-device link")
        return move(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    set_aside(folder)
    assert tree(folder).keys() == {f"earlier.1/{name}" for name in RUN}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_cannot_be_moved_stays_whole(tmp_path, monkeypatch):
    folder, move = write(tmp_path / "x", *RUN), type(tmp_path).rename
    before = tree(folder)

    def rename(path, target):
        if path == folder / "samples":
            raise OSError(aside.errno.EBUSY, "Device or resource busy")
        return move(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    with pytest.raises(InputError, match=r"cannot be moved to .*busy"):
        set_aside(folder)
    assert tree(tmp_path) == {f"x/{name}": text for name, text in before.items()}


def test_a_link_stays_and_the_run_is_beside_what_it_leads_to(tmp_path):
    real = write(tmp_path / "disk" / "real", "config.yaml")
    (tmp_path / "link").symlink_to(real)
    set_aside(tmp_path / "link")
    assert (tmp_path / "link").resolve() == real
    assert tree(tmp_path / "disk") == {"real.1/config.yaml": "real config.yaml"}


def test_what_the_new_run_reads_is_not_moved_away_from_it(tmp_path):
    folder = write(tmp_path / "x", *RUN, "pictures/a.png")
    with pytest.raises(InputError, match=r"reads .*x/pictures; name another"):
        set_aside(folder, [tmp_path / "elsewhere", folder / "pictures" / "a.png"])
    assert tree(folder).keys() == {*RUN, "pictures/a.png"}


def test_a_run_inside_that_is_going_on_is_not_moved(tmp_path):
    folder = write(tmp_path / "x", *RUN)
    with owned(folder), owned(folder / "validate"), pytest.raises(InputError, match="still going"):
        set_aside(folder)
    assert tree(folder).keys() == {*RUN}


def test_a_copy_of_a_finished_run_stays(tmp_path, capsys):
    folder = write(tmp_path / "x", *RUN)
    with owned(folder):
        keep_copy(folder)
        write(folder, "x.safetensors")
        keep_copy(folder)
    assert tree(folder) == tree(tmp_path / "x.1") == tree(tmp_path / "x.2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.1", "x.2"]
    assert f"{folder} is finished; as it is now it stays in {tmp_path / 'x.1'}" in capsys.readouterr().err


def test_a_copy_that_fails_leaves_nothing_and_changes_nothing(tmp_path):
    folder = write(tmp_path / "x", *RUN)
    before = tree(folder)
    os.mkfifo(folder / "samples" / "pipe")
    with pytest.raises(InputError, match=r"is finished, but cannot be copied to .*x\.1: .*pipe"):
        keep_copy(folder)
    assert tree(tmp_path) == {f"x/{name}": text for name, text in before.items()}
