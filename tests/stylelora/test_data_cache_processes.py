"""Several processes that fill one cache, and killed ones; forked from a server that has loaded the libraries."""

import multiprocessing
import os
import time

import pytest

from stylelora.data.cache import Cache, View
from stylelora.data.scan import scan_folder
from tests.runs import draw_pictures, entries

VIEW = View((64, 64), "box")


def fill(folder, base, root):
    """What a process does that prepares a training."""
    cache = Cache(folder, base, "cpu")
    cache.add_texts(f"a thing with number {i}" for i in range(40))
    cache.add_latents([(picture, VIEW) for picture in scan_folder(root)])


@pytest.fixture(scope="module")
def start(tiny_sd, tmp_path_factory):
    """Start a process that fills a folder with 40 pictures and 40 texts; and what must come out."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.stylelora.test_data_cache_processes", "diffusers.models", "transformers"])
    root = draw_pictures(tmp_path_factory.mktemp("many"), 40)
    whole = Cache(tmp_path_factory.mktemp("whole"), tiny_sd, "cpu")
    fill(whole.folder, tiny_sd, root)

    def start(folder):
        process = context.Process(target=fill, args=(folder, tiny_sd, root))
        process.start()
        return process

    return start, lambda folder: fill(folder, tiny_sd, root), entries(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 20, 41, 65])
def test_killed_while_building_and_started_again_gives_the_same(start, cache, moment):
    begin, finish, whole = start
    process = begin(cache.folder)
    while process.is_alive() and len(list(cache.folder.rglob("*.*"))) < moment:
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    left = entries(cache)
    assert moment <= len(left) < 80
    assert all(data == whole[path] for path, data in left.items() if path.suffix != ".partial")
    finish(cache.folder)
    for path in cache.folder.rglob("*.partial"):
        os.utime(path, (0, 0))
    cache.remove_abandoned()
    assert entries(cache) == whole


@pytest.mark.slow
def test_two_processes_at_once_build_the_same(start, cache):
    begin, _, whole = start
    processes = [begin(cache.folder) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert entries(cache) == whole


def test_what_killed_processes_left_is_removed_when_it_is_old(cache):
    cache.text("a")
    (path,) = cache.folder.rglob("*.safetensors")
    old, new = path.with_suffix(".1.partial"), path.with_suffix(".2.partial")
    for partial in (old, new):
        partial.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.remove_abandoned()
    assert sorted(cache.folder.rglob("*.*")) == sorted([path, new])
