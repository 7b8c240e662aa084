"""Gathering results across distributed processes."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather_objects(obj: T) -> list[T]:
    """Gather one object per process, in rank order, on every rank; `[obj]` with a single process.

    Args:
        obj: any picklable object; keep tensors on the CPU, since they would come back on the sender's device.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [obj]
    objects: list[T] = [obj] * dist.get_world_size()
    dist.all_gather_object(objects, obj)
    return objects


def gather_rows(rows: list[dict], key: str) -> list[dict]:
    """Gather rows from all processes, sorted by `key`; duplicates added by a padding sampler are dropped.

    Args:
        rows: rows of this process.
        key: field that identifies an item, such as "index".
    """
    unique = {row[key]: row for part in gather_objects(rows) for row in part}
    return [unique[item] for item in sorted(unique)]
