"""What each head of `benchmarks.photographs` costs, side by side, from the feature map of EfficientNet-Lite0."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from assocformer_hf.model.losses import asymmetric_loss
from benchmarks.measure import peak_memory, report, seconds
from benchmarks.photographs_runs import Arm, create_head

CHANNELS, POSITIONS, LABELS, BATCH = 1280, 36, 24, 16


def measure_costs(arms: Sequence[Arm], folder: Path, rounds: int = 7):
    """Writes `costs.json`: parameters, milliseconds for 16 photographs, and megabytes of a training step.

    The file then has these arms alone. All take turns, in one thread, and what counts is the processor's time, which
    other jobs do not lengthen. The time of a head on pooled features includes the pooling. A training step is forward
    and backward; its memory are the weights, their gradients and the most that is held beside them.
    """
    maps = torch.rand(BATCH, POSITIONS, CHANNELS)
    labels = torch.randint(2, (BATCH, LABELS)).float()
    heads = {
        arm.name: create_head(arm, CHANNELS, labels, {axis: values[0] for axis, values in arm.start.items()}, seed=0)
        for arm in arms
    }
    with torch.no_grad():
        forward = {name: partial(score, head.eval(), maps) for name, head in heads.items()}
        forward_seconds = seconds(forward, rounds, time.process_time)
    training = {name: partial(step, head.train(), maps, labels) for name, head in heads.items()}
    training_seconds = seconds(training, rounds, time.process_time)
    rows = []
    for name, head in heads.items():
        parameters = sum(p.numel() for p in head.parameters())
        rows.append(
            {
                "arm": name,
                "parameters_M": parameters / 1e6,
                "forward_ms": 1e3 * median(forward_seconds[name]),
                "forward_backward_ms": 1e3 * median(training_seconds[name]),
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
