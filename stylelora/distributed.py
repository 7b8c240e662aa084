"""What one process needs to know of the others."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather_objects(obj: T) -> list[T]:
    """Return every process's object, in the order of ranks and on every rank; `[obj]` where there is one process.

    Args:
        obj: anything that pickles; CPU data, since tensors would come back on their sender's device.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [obj]
    objects: list[T] = [obj] * dist.get_world_size()
    dist.all_gather_object(objects, obj)
    return objects


def gather_rows(rows: list[dict], key: str) -> list[dict]:
    """Join the rows of all processes, in the order of `key` and once for each, should a sampler repeat an item.

    Args:
        rows: this process's.
        key: what tells items apart, such as "index".
    """
    unique = {row[key]: row for part in gather_objects(rows) for row in part}
    return [unique[item] for item in sorted(unique)]
