"""Runs that begin together with the same data."""

import threading
import time

import torch

from stylelora.data.cache import Cache, View
from stylelora.data.scan import scan_folder


def test_of_two_runs_that_begin_together_one_encodes_for_both(tiny_sd, cache, pictures, monkeypatch, caplog):
    """Without the lock both encode nearly all, for neither has written what the other is about to encode."""
    made, both = [], threading.Barrier(2)
    encode_text, loads = Cache._encode_text, []
    for load in (Cache._vae, Cache._text_encoder):
        monkeypatch.setattr(Cache, load.__name__, lambda self, load=load: loads.append(load.__name__) or load(self))

    def encode_picture(picture, view, vae):
        made.append(picture.sha256)
        time.sleep(0.02)
        return {"mean": torch.zeros(1), "std": torch.ones(1)}

    def slow_text(self, text, encoder):
        made.append(text)
        time.sleep(0.02)
        return encode_text(self, text, encoder)

    monkeypatch.setattr("stylelora.data.cache._encode_picture", encode_picture)
    monkeypatch.setattr(Cache, "_encode_text", slow_text)
    monkeypatch.setattr("stylelora.data.cache.PATIENCE", 0.01)
    wanted = [(picture, View((64, 64), "box")) for picture in scan_folder(pictures)]
    texts = [f"thing {i}" for i in range(4)]

    def run():
        own = Cache(cache.folder, tiny_sd, "cpu")
        both.wait()
        own.add_texts(texts)
        own.add_latents(wanted)

    runs = [threading.Thread(target=run) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert sorted(made) == sorted([*texts, *(picture.sha256 for picture, _ in wanted)])
    assert sorted(loads) == ["_text_encoder", "_vae"], "the one that waited needs no network"
    assert "waiting for another run that encodes the same" in caplog.text
    assert not list(cache.folder.rglob("*.partial")), "the lock goes when it is released"


def test_where_files_cannot_be_locked_entries_are_encoded_all_the_same(cache, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    cache.add_texts(["a cat"])
    assert cache.text_path("a cat").is_file()
