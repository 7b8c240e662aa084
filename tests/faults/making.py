"""Makes the hostile inputs of `corpus/` from their descriptions, each in an empty folder of its own."""

import json
import os
import shutil
import socket
import struct
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stylelora.records import Quantity
from tests.finished import write_finished

STEPS = {}


def step(function):
    """Register what an entry of the corpus can ask for by name: `[write, FILE, TEXT]`."""
    STEPS[function.__name__.strip("_")] = function
    return function


def make(steps, here, given):
    """Carry out steps in `here`; `{name}` in texts stands for what is `given`, `{long}` for a long name."""
    for name, *words in steps:
        STEPS[name](here, *(filled(word, here, given) for word in words))


def filled(word, here, given):
    """Put paths for `{here}` and the like."""
    if isinstance(word, list):
        return [filled(one, here, given) for one in word]
    if isinstance(word, dict):
        return {key: filled(one, here, given) for key, one in word.items()}
    if isinstance(word, str):
        for name, value in {"here": here, "long": "a" * 300, **given}.items():
            word = word.replace(f"{{{name}}}", str(value))
    return word


def fresh(here, name):
    """Return a path that is free; what was there may be a link to a file that all entries share."""
    path = Path(here, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


@step
def copy(here, source, name):
    """Copy a file or a folder as hard links."""
    place = os.link if Path(source).is_file() else lambda one, two: shutil.copytree(one, two, copy_function=os.link)
    Path(here, name).parent.mkdir(parents=True, exist_ok=True)
    place(source, Path(here, name))


@step
def write(here, name, text, encoding="utf-8"):
    """Write a text."""
    fresh(here, name).write_bytes(text.encode(encoding, "surrogatepass"))


@step
def _bytes(here, name, digits):
    """Write bytes given as hexadecimal digits."""
    fresh(here, name).write_bytes(bytes.fromhex(digits))


@step
def repeat(here, name, before, text, times, after):
    """Write a text many times, between two others."""
    fresh(here, name).write_text(before + text * times + after)


@step
def cut(here, name, size):
    """Keep the first bytes of a file; a negative number leaves out the last ones."""
    data = Path(here, name).read_bytes()[:size]
    fresh(here, name).write_bytes(data)


@step
def sparse(here, name, size):
    """Make a file of a size that takes no room."""
    with fresh(here, name).open("wb") as file:
        file.truncate(size)


@step
def _set(here, name, changes):
    """Change keys of a JSON file; null removes one."""
    found = json.loads(Path(here, name).read_text()) | changes
    fresh(here, name).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


@step
def remove(here, name):
    """Remove a file or a folder."""
    path = Path(here, name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@step
def move(here, name, new):
    """Rename a file or a folder."""
    Path(here, name).rename(Path(here, new))


@step
def folder(here, name):
    """Make a folder."""
    Path(here, name).mkdir(parents=True)


@step
def link(here, name, target):
    """Make a symbolic link."""
    fresh(here, name).symlink_to(target)


@step
def pipe(here, name):
    """Make a named pipe, which nobody writes to."""
    os.mkfifo(fresh(here, name))


@step
def _socket(here, name):
    """Make a socket."""
    fresh(here, name)
    before = os.getcwd()
    os.chdir(here)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    finally:
        os.chdir(before)


@step
def closed(here, name):
    """Take all permissions away."""
    Path(here, name).chmod(0)


@step
def tensors(here, name, changes):
    """Change tensors of a safetensors file: a shape gives ones of that shape, null removes."""
    with safe_open(Path(here, name), "pt") as file:
        state, notes = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    state |= {key: None if shape is None else torch.ones(shape) for key, shape in changes.items()}
    state = {key: value.contiguous() for key, value in state.items() if value is not None}
    save_file(state, fresh(here, name), metadata=notes)


@step
def many(here, name, count, key, shape):
    """Write a safetensors file of many tensors; `key` has a {} for their number."""
    empty = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header(here, name, json.dumps({key.format(i): empty for i in range(count)}))


@step
def notes(here, name, changes):
    """Change the metadata of a safetensors file."""
    with safe_open(Path(here, name), "pt") as file:
        state, before = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
    save_file(state, fresh(here, name), metadata=before | texts)


@step
def lora(here, name, changes={}, config={}, notes={}):  # noqa: B006
    """Write a LoRA of one layer with PEFT's names; a shape or a list of numbers replaces a tensor, null removes it."""
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(32, 2)}
    for key, value in changes.items():
        key = key.replace("LAYER", layer)
        made = None if value is None else torch.tensor(value["is"]) if isinstance(value, dict) else torch.ones(value)
        state = {one: tensor for one, tensor in (state | {key: made}).items() if tensor is not None}
    full = {f"unet.{key}": value for key, value in ({"r": 2, "lora_alpha": 2} | config).items()}
    save_file(state, fresh(here, name), metadata={"lora_adapter_metadata": json.dumps(full), **notes})


@step
def header(here, name, text, size=None, data=""):
    """Write a safetensors file with a header of one's own; `size` lies about its length."""
    head = text.encode()
    fresh(here, name).write_bytes(struct.pack("<Q", len(head) if size is None else size) + head + bytes.fromhex(data))


@step
def test_run(here, name):
    """Write what a finished test leaves."""
    clip = Quantity("clip_score", "tiny")
    values = {"base": {clip: lambda i, j: 0.2 + i / 100}, "ink 1": {clip: lambda i, j: 0.3 + i * i / 1000}}
    losses = {"base": lambda i: 1.0 + i, "ink 1": lambda i: 0.9 + i}
    write_finished(Path(here, name), values, losses, prompts=5)
