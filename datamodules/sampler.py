"""Which pictures a process gets, so that the number of processes does not change the training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DistributedSampler

from stylelora.diffusion.noise import generator


class EpochSampler(DistributedSampler):
    """Shuffles per epoch; step k sees the same pictures with one process as with several at the same global batch.

    It is a DistributedSampler so that Lightning leaves it in place and tells it the epoch. Unlike its parent it never
    repeats a sample to make shares equal; what does not fill a global batch is left to another epoch.

    Args:
        count: number of samples.
        batch_size: samples per process and step.
        world_size: number of processes.
        rank: this process.
        seed: of the shuffling.
    """

    def __init__(self, count: int, batch_size: int, world_size: int, rank: int, seed: int) -> None:
        super().__init__(range(count), num_replicas=world_size, rank=rank, seed=seed)
        self.used = count // (batch_size * world_size) * batch_size * world_size

    def __iter__(self) -> Iterator[int]:
        """Yield this process's share of the epoch."""
        order = torch.randperm(len(self.dataset), generator=generator("shuffle", self.seed, self.epoch))
        return iter(order[: self.used][self.rank :: self.num_replicas].tolist())

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
