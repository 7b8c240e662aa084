"""What all tests share: no network, one thread, one tiny checkpoint."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face import
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.runs import draw_pictures
from tests.tiny_clip import build_tiny_clip
from tests.tiny_sd import build_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """Folder of a random checkpoint with SD 1.5's layout; tests only read it."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """Folder of a random CLIP; tests only read it."""
    return build_tiny_clip(tmp_path_factory.mktemp("scorers") / "tiny")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folder of eight captioned pictures; tests only read it."""
    return draw_pictures(tmp_path_factory.mktemp("style"))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Runs leave their seed in the environment; the next test must not inherit it."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")


@pytest.fixture(scope="session")
def adapter_files(tiny_sd, tmp_path_factory):
    """Two adapters of different rank, alpha and layers; tests only read them."""
    from tests.adapters import write_two

    return write_two(tiny_sd, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def heard():
    """Let this process hear signals that it was started to ignore, as `nohup` and a shell's `&` have it."""
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
