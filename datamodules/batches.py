"""Which pictures each process gets, and in which form: the number of processes does not change what is trained."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from stylelora.data.buckets import batches_of
from stylelora.data.cache import Cache
from stylelora.data.dataset import StyleDataset
from stylelora.data.prior import PriorPictures
from stylelora.diffusion import noise
from stylelora.seeds import generator


class Sample(int):
    """Number of a training sample that knows the epoch it is for, since worker processes are not told the epoch."""

    epoch = 0

    @classmethod
    def of(cls, row: int, epoch: int) -> Sample:
        """Return a sample of an epoch."""
        sample = cls(row)
        sample.epoch = epoch
        return sample


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

    def __iter__(self) -> Iterator[Sample]:
        """Yield this process's share of the epoch; every `batch_size` of them are of one bucket."""
        waiting, order = defaultdict(list), []
        for row in torch.randperm(len(self.dataset), generator=generator("shuffle", self.seed, self.epoch)).tolist():
            batch = waiting[self.dataset[row]]
            batch.append(row)
            if len(batch) == self.batch:
                order += batch
                batch.clear()
        epoch = self.epoch  # samples are made one at a time, for each takes 0.2 kB
        return (Sample.of(row, epoch) for row in order[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        """Return the number of samples of this process."""
        return self.used // self.num_replicas


class TrainingBatches(Dataset):
    """Reads the batches of training samples from the cache; worker processes can do it, too.

    What is drawn for a sample, mirroring and caption, is keyed by seed, epoch and its number.

    Args:
        dataset: the pictures.
        prior: pictures that are appended to each batch.
        cache: latents and captions.
        seed: of the draws.
    """

    def __init__(self, dataset: StyleDataset, prior: PriorPictures, cache: Cache, seed: int) -> None:
        self.dataset, self.prior, self.cache, self.seed = dataset, prior, cache, seed

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        return len(self.dataset.samples)

    def __getitems__(self, samples: list[Sample]) -> dict:
        """Return a batch; see `StyleDataset.batch`."""

        def draws(what: str) -> list[float]:
            return noise.uniform([(what, self.seed, sample.epoch, int(sample)) for sample in samples]).tolist()

        dataset = self.dataset
        flips = [draw < 0.5 for draw in draws("flip")] if dataset.flip else [False] * len(samples)
        pictures = [dataset.train[dataset.samples[sample]] for sample in samples]
        shown = [dataset.wording.variants(picture.texts) for picture in pictures]
        turns = draws("tags") if any(len(captions) > 1 for captions in shown) else [0.0] * len(samples)
        captions = [captions[int(turn * len(captions))] for captions, turn in zip(shown, turns, strict=True)]
        batch = dataset.batch(self.cache, "train", list(map(int, samples)), flips, captions)
        size = dataset.sizes["train"][dataset.samples[samples[0]]]
        return self.prior.joined(batch, self.cache, size, self.seed, samples[0].epoch)


class TrainingLoader(DataLoader):
    """Goes on where a checkpoint was saved within an epoch; Lightning keeps its state.

    An epoch begins with its first batch, not with `iter`: by then the sampler knows the number of the epoch, which a
    resumed run would not have told it in time for worker processes that read ahead.
    """

    given = 0  # batches of this epoch
    skipped = 0  # batches that the run that is resumed had made of it

    def __iter__(self) -> Iterator[dict]:
        """Yield the batches of an epoch that have not been given yet."""
        start, self.skipped = self.skipped, 0
        for self.given, batch in enumerate(itertools.islice(super().__iter__(), start, None), start=start + 1):
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how far the epoch is."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there; after an epoch's last batch with the next epoch."""
        self.skipped = state["given"] if state["given"] < len(self) else 0


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


def share_batches(
    kinds: Sequence[Hashable], batch_size: int, world_size: int, rank: int, collate: Callable
) -> DataLoader:
    """Return a loader of this process's share of samples, every n-th, in batches of one kind.

    Args:
        kinds: of each sample what it must have in common with the others of its batch.
        batch_size: samples per batch.
        world_size: number of processes.
        rank: this process.
        collate: from the samples' numbers to a batch.
    """
    share = range(len(kinds))[rank::world_size]
    batches = [[share[i] for i in some] for some in batches_of([kinds[row] for row in share], batch_size)]
    sampler = ShareSampler(len(batches), 1, 0)  # else Lightning would divide the share again
    return DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)  # None: an item is a batch
