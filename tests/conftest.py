"""What all tests share: no network, one thread, one tiny checkpoint."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face import
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.tiny_sd import build_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """Folder of a random checkpoint with SD 1.5's layout; tests only read it."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))
