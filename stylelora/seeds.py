"""Random generators seeded by purpose, so that results do not depend on call order."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """Hash `key` to a seed in 0..2**63-1."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by the hash of `key`."""
    return torch.Generator().manual_seed(seed_of(*key))
