"""The order of the training images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Sampler

from assocformer_hf.data.images.streaming import StreamedImages


class ShuffledSampler(Sampler[int]):
    """Every example once, in an order that depends on the seed and the epoch alone and can be entered anywhere.

    Args:
        count: number of examples.
        seed: seed of the orders.

    Attributes:
        start: examples at the beginning of the order that are passed over, those that an interrupted epoch has seen.
    """

    def __init__(self, count: int, seed: int = 0):
        self.count = count
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        yield from torch.randperm(self.count, generator=generator)[self.start :].tolist()

    def __len__(self) -> int:
        return self.count - self.start


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such as a seed, an epoch and a batch; all of them count in every bit."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class StreamOrder(Sampler[tuple[int, dict]]):
    """The examples of a stream in an order that depends on the seed and the epoch alone and can be entered anywhere.

    In each epoch the shards are put in another order. Every process reads a part of this row of examples of its own,
    all parts of one length, block by block of as many as the images' buffer holds, and each block is shuffled. So the
    place in an epoch is a number, where the buffer of `IterableDataset.shuffle` would lose what it holds at a stop.
    The next block is read while one is used.

    Args:
        images: of the stream.
        seed: seed of the orders.
        processes: that share the examples.
        process: number of this one.
        most: examples of an epoch to read, over all processes; default: all but the remainder of the division.

    Attributes:
        start: examples of all processes at the beginning of the order that are passed over.
    """

    def __init__(
        self, images: StreamedImages, seed: int = 0, processes: int = 1, process: int = 0, most: int | None = None
    ):
        self.images, self.seed = images, seed
        self.processes, self.process = processes, process
        self.part = len(images) // processes
        self.count = self.part if most is None else min(self.part, most // processes)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        done, size = self.start // self.processes, self.images.buffer
        first = done // size
        rows = self._rows(first * size)
        # Reading ahead in a thread: of this process, as a loader's workers decode.
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(lambda: list(islice(rows, size)))
            for block in range(first, -(-self.count // size)):
                examples = coming.result()
                coming = reader.submit(lambda: list(islice(rows, size)))
                order = self._permutation(len(examples), self.process, block)
                yield from (examples[i] for i in order[max(done - block * size, 0) :])

    def __len__(self) -> int:
        return self.count - self.start // self.processes

    def _rows(self, start: int) -> Iterator[tuple[int, dict]]:
        """This process's examples in the order of the shards, from one on."""
        left, skipped = self.count - start, self.process * self.part + start
        for shard in self._permutation(len(self.images.rows)):
            rows = self.images.rows[shard]
            if skipped < rows and left:
                yield from islice(self.images.read(shard, skipped), left)
                left -= min(left, rows - skipped)
            skipped = max(skipped - rows, 0)

    def _permutation(self, count: int, *numbers: int) -> list[int]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch, *numbers))
        return torch.randperm(count, generator=generator).tolist()
