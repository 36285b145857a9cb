"""What each head of `benchmarks.photographs` costs, side by side, from the feature map of EfficientNet-Lite0."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from assocformer_hf.model.losses import asymmetric_loss
from benchmarks.measure import peak_memory, report, seconds
from benchmarks.photographs_runs import Arm, create_head

CHANNELS, POSITIONS, LABELS, BATCH = 1280, 36, 24, 16
QUICK = 0.05  # seconds of a training step


def measure_costs(arms: Sequence[Arm], folder: Path, rounds: int = 7):
    """Writes `costs.json`: parameters, milliseconds for 16 photographs, and megabytes of a training step.

    The file then has these arms alone. They take turns in one thread, the quick ones among themselves and more often.
    What counts is the processor's time, which other jobs do not stop, and of a head its least, as they slow it down.
    The time of a head on pooled features includes the pooling. A training step is forward and backward; its memory are
    the weights, their gradients and the most that is held beside them.
    """
    maps = torch.rand(BATCH, POSITIONS, CHANNELS)
    labels = torch.randint(2, (BATCH, LABELS)).float()
    heads = {
        arm.name: create_head(arm, CHANNELS, labels, {axis: values[0] for axis, values in arm.start.items()}, seed=0)
        for arm in arms
    }
    training = {name: partial(step, head, maps, labels) for name, head in heads.items()}
    (trial,) = zip(*seconds(training, 1, time.process_time).values(), strict=True)
    quick = {name for name, took in zip(heads, trial, strict=True) if took < QUICK}
    forward_seconds, training_seconds = {}, {}
    for names, times in ((quick, 30 * rounds), (heads.keys() - quick, rounds)):
        forward = {name: partial(score, heads[name].eval(), maps) for name in heads if name in names}
        with torch.no_grad():
            forward_seconds |= seconds(forward, times, time.process_time)
        steps = {name: partial(step, heads[name].train(), maps, labels) for name in forward}
        training_seconds |= seconds(steps, times, time.process_time)
    rows = []
    for name, head in heads.items():
        parameters = sum(p.numel() for p in head.parameters())
        rows.append(
            {
                "arm": name,
                "parameters_M": parameters / 1e6,
                "forward_ms": 1e3 * min(forward_seconds[name]),
                "forward_backward_ms": 1e3 * min(training_seconds[name]),
                "peak_MB": (4 * parameters + peak_memory(training[name])) / 1e6,
            }
        )
    report("costs", rows, "python -m benchmarks.photographs --costs", folder)


def score(head: nn.Module, maps: Tensor) -> Tensor:
    return head(maps if head.on_maps else maps.mean(1))


def step(head: nn.Module, maps: Tensor, labels: Tensor):
    logits, penalty = score(head, maps)
    (asymmetric_loss(logits, labels, 0, 2) + penalty).backward()
    head.zero_grad()
