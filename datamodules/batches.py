"""Which pictures each process gets: the number of processes does not change what is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence

import torch
from torch.utils.data import DistributedSampler

from stylelora.seeds import generator


class EpochSampler(DistributedSampler):
    """Shuffles every epoch; step k sees the same pictures for any number of processes with one global batch size.

    It is a DistributedSampler so that Lightning leaves it in place and tells it the epoch. Unlike its parent it never
    repeats a sample to make shares equal; what does not fill a global batch is left to another epoch.

    Args:
        buckets: of each sample what it must have in common with the others of its batch, such as the size.
        batch_size: samples per process and step.
        world_size: number of processes.
        rank: this process.
        seed: of the shuffling.
    """

    def __init__(self, buckets: Sequence[Hashable], batch_size: int, world_size: int, rank: int, seed: int) -> None:
        super().__init__(buckets, num_replicas=world_size, rank=rank, seed=seed)
        self.batch = batch_size * world_size
        self.used = sum(count // self.batch * self.batch for count in Counter(buckets).values())

    def __iter__(self) -> Iterator[int]:
        """Yield this process's share of the epoch; every `batch_size` of them are of one bucket."""
        waiting, order = defaultdict(list), []
        for row in torch.randperm(len(self.dataset), generator=generator("shuffle", self.seed, self.epoch)).tolist():
            batch = waiting[self.dataset[row]]
            batch.append(row)
            if len(batch) == self.batch:
                order += batch
                batch.clear()
        return iter(order[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        """Return the number of samples of this process."""
        return self.used // self.num_replicas


class ShareSampler(DistributedSampler):
    """Gives each process every n-th sample, in order, none twice: for held-out pictures and prompts."""

    def __init__(self, count: int, world_size: int, rank: int) -> None:
        super().__init__(range(count), num_replicas=world_size, rank=rank, shuffle=False)

    def __iter__(self) -> Iterator[int]:
        """Yield this process's share."""
        return iter(self.dataset[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        """Return the size of this process's share."""
        return len(self.dataset[self.rank :: self.num_replicas])


def batches_of(buckets: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Return the samples in batches of one bucket, in their order and each once; the last of a bucket may be short."""
    rows = defaultdict(list)
    for row, bucket in enumerate(buckets):
        rows[bucket].append(row)
    return [some[i : i + batch_size] for some in rows.values() for i in range(0, len(some), batch_size)]
