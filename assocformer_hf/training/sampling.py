"""The order of the training images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


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

    def set_epoch(self, epoch: int):
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
