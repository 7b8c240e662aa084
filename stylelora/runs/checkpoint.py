"""Checkpoint files: Lightning's format with a hash behind it, read from local files and without running any code.

A checkpoint is a zip file, and a zip file may end in a comment: there the hash stands, so that one file holds both and
plain Lightning and PyTorch read it, too.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from stylelora.files import check_local, write
from stylelora.records import InputError

_MARK = b"sha256 of what is before this comment: "
_COMMENT = len(_MARK) + 64
_KEYS = {"state_dict", "global_step", "epoch", "pytorch-lightning_version"}


def save_checkpoint(checkpoint: dict[str, Any], path: Path | str) -> None:
    """Write a checkpoint whole or not at all, with its hash.

    Args:
        checkpoint: tensors and plain values, at any depth.
        path: file to write or replace.

    Raises:
        OSError: if it cannot be written.
    """
    path, buffer = check_local(path), io.BytesIO()
    torch.save(checkpoint, buffer)
    content = buffer.getvalue()[:-2] + struct.pack("<H", _COMMENT)  # the length of the comment ends a zip file
    write(path, b"".join([content, _MARK, hashlib.sha256(content).hexdigest().encode()]))


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint of a run on the CPU: tensors and plain values, nothing else.

    Raises:
        InputError: if there is none, it is damaged, or something else.
    """
    path = check_local(path)
    if path.is_dir():
        beside = next((one for one in (path / "last.ckpt", path / "checkpoints" / "last.ckpt") if one.is_file()), None)
        raise InputError(f"{path} is a folder; give a checkpoint, {beside or 'such as checkpoints/last.ckpt'}")
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    if not (content := path.read_bytes()):
        raise InputError(f"{path} is empty; {_elsewhere(path)}")
    if path.suffix == ".safetensors" or content[8:9] == b"{":
        raise InputError(
            f"{path} is a LoRA, not a checkpoint: it has no state of the optimiser; give checkpoints/last.ckpt of its "
            "run, or begin a new run with it: --model.init_from"
        )
    if not content.startswith(b"PK\3\4"):
        raise InputError(f"{path} is not a checkpoint of fit, or its beginning is damaged; {_elsewhere(path)}")
    if not _is_whole(content):
        raise InputError(f"{path} is damaged or was cut off; {_elsewhere(path)}")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, which could run code when it is read; give a checkpoint "
            "of fit"
        ) from error
    except Exception as error:  # whatever a crafted file does to the reader
        raise InputError(f"{path} is not a checkpoint of fit: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _KEYS:
        raise InputError(f"{path} is not a checkpoint of fit; give checkpoints/last.ckpt of a run")
    return checkpoint


def _elsewhere(path: Path) -> str:
    others = sorted(one.name for one in path.parent.glob("*.ckpt") if one != path)
    return f"give another, such as {path.with_name(others[0])}" if others else "train again"


def _is_whole(content: bytes) -> bool:
    """Tell whether the hash fits; of a file without one, of an older version, whether the zip's checksums do."""
    if content[-_COMMENT:].startswith(_MARK):
        return hashlib.sha256(content[:-_COMMENT]).hexdigest().encode() == content[-64:]
    if not content[-22:].startswith(b"PK\5\6"):  # the end of a zip file without a comment: else a hash was cut off
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            stored = all(one.compress_type == zipfile.ZIP_STORED for one in file.infolist())  # else it may be a bomb
            return stored and file.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error, OSError, RuntimeError):
        return False
