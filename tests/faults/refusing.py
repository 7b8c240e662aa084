"""An operating system that refuses: the n-th file that is opened for writing, written, renamed or the n-th new folder.

Python tells an audit hook of each before it happens, also those of libraries, so that no list of files is needed.
"""

import contextlib
import errno
import io
import itertools
import json
import os
import re
import resource
import sys
from pathlib import Path

import yaml
from PIL import Image
from safetensors.torch import load_file

from stylelora.runs.checkpoint import read_checkpoint

KINDS = ("open", "write", "rename", "mkdir")
WRITING = os.O_WRONLY | os.O_RDWR
EVENTS = {"os.rename": "rename", "os.mkdir": "mkdir"}


class Refusal:
    """Lets one event below a folder fail.

    Attributes:
        path: what was refused; None: there were fewer events.
        seen: number of events of its kind so far.
    """

    def __init__(self, root, kind, number, code):
        self.root, self.kind, self.number, self.code = str(root), kind, number, code
        self.path, self.seen, self.limited = None, 0, None

    def hear(self, kind, path):
        self.lift()
        if kind != ("open" if self.kind == "write" else self.kind):
            return
        self.seen += 1
        if self.seen - 1 != self.number:
            return
        self.path = Path(path)
        if self.kind != "write":
            raise OSError(self.code, os.strerror(self.code), path)
        self.limited = resource.getrlimit(resource.RLIMIT_FSIZE)  # until the next event: closing it, at the latest
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.limited[1]))

    def lift(self):
        if self.limited is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.limited)
            self.limited = None


_active = []


def _hook(event, arguments):
    if not _active or event not in ("open", "os.rename", "os.mkdir", "os.remove"):
        return
    path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
    if not os.path.abspath(path).startswith(_active[0].root):
        return
    if event == "os.mkdir" and os.path.isdir(path):  # which is refused anyway, and no error
        return
    if event != "open":
        _active[0].hear(EVENTS.get(event), path)
    elif set(arguments[1] or "") & set("wax+") or (arguments[2] or 0) & WRITING:
        _active[0].hear("open", path)


@contextlib.contextmanager
def refusing(root, kind, number, code=errno.ENOSPC):
    """Refuse the n-th event of a kind below a folder; yields the `Refusal`."""
    if not hasattr(sys, "_refusing"):  # hooks cannot be removed
        sys.addaudithook(_hook)
        sys._refusing = True
    refusal = Refusal(root, kind, number, code)
    _active.append(refusal)
    try:
        yield refusal
    finally:
        _active.clear()
        refusal.lift()


TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.partial")
CODES = (errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EDQUOT, errno.EROFS, errno.EIO)


class Printed(io.StringIO):
    """A stdout that is no file, whose size would be limited, too."""

    def reconfigure(self, **_):
        """Take any text, as it does."""


def refuse_each(folder_of, work, kinds=KINDS, at=None):
    """Refuse everything that some work writes, one at a time; see that it ends in a sentence and leaves whole files.

    It may also do without what was refused, such as the note on who owns a run; then it leaves the same as otherwise.

    Args:
        folder_of: makes a fresh folder of a number.
        work: does the work in it; returns its exit status and what it says.
        kinds: kinds of events.
        at: the only events to refuse; None: all.

    Returns:
        (kind, name) of what was refused.
    """
    refused, without = [], []
    for kind in kinds:
        for number in itertools.count() if at is None else at:
            folder, code = folder_of(f"{kind}-{number}"), CODES[number % len(CODES)]
            before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            with contextlib.redirect_stdout(Printed()), refusing(folder, kind, number, code) as refusal:
                status, said = work(folder)
            if refusal.path is None:
                assert status == 0, said
                assert all(left == names(folder) for left in without), without
                break
            where = f"{kind} {refusal.path}: {status} {said}"
            refused.append((kind, refusal.path.name))
            if status == 0:
                without.append(names(folder))
            else:
                check_sentence(said, folder, where)
            assert not [path for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)], where
            for path in folder.rglob("*"):
                if path.is_file():
                    assert path.read_bytes() == before[path] if path in before else is_whole(path), f"{path} {where}"
    return refused


def names(folder):
    """Names of what is in a folder, without times and processes."""
    return sorted(re.sub(r"\d{4,}.*", "", str(path.relative_to(folder))) for path in folder.rglob("*"))


def check_sentence(said, folder, where):
    """One line, the last, that names something in the folder, and no temporary name."""
    last = said.strip().split("\n")[-1]
    assert last.startswith("error: ") and said.count("error: ") == 1 and "Traceback" not in said, where
    assert str(folder) in last and not TEMPORARY.search(last), where


def is_whole(path):
    """Tell whether a file can be read to its end."""
    if "tfevents" in path.name or path.name in ("hparams.yaml", "metrics.csv"):
        return True  # Lightning's logs are written on and on; their readers leave out half a line
    if path.suffix == ".safetensors":
        return bool(load_file(path))
    if path.suffix == ".ckpt":
        return bool(read_checkpoint(path))
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        return isinstance(json.loads(text), dict)
    if path.suffix == ".jsonl":
        return all(json.loads(line) for line in text.split("\n") if line)
    if path.suffix in (".yaml", ".yml"):
        return bool(yaml.safe_load(text))
    if path.suffix == ".html":
        return text.rstrip().endswith("</html>")
    return bool(text) or path.name == ".lock"
