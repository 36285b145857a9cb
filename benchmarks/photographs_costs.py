"""What each head of `benchmarks.photographs` costs, side by side, from the feature map of EfficientNet-Lite0."""

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


def measure_costs(arms: Sequence[Arm], folder: Path, rounds: int = 21):
    """Writes `costs.json`: parameters, milliseconds for 16 photographs, and megabytes of a training step.

    The file then has these arms alone. The time of a head on pooled features includes the pooling. A training step is
    forward and backward; its memory are the weights, their gradients and the most that is held beside them.
    """
    maps = torch.rand(BATCH, POSITIONS, CHANNELS)
    labels = torch.randint(2, (BATCH, LABELS)).float()
    rows = []
    for arm in arms:
        head = create_head(arm, CHANNELS, labels, {axis: values[0] for axis, values in arm.start.items()}, seed=0)
        forward, training = partial(score, head.eval(), maps), partial(step, head, maps, labels)
        with torch.no_grad():
            forward_ms = 1e3 * median(seconds({"": forward}, rounds)[""])
        head.train()
        times = seconds({"": training}, max(2, min(rounds, int(2000 / forward_ms))))[""]
        parameters = sum(p.numel() for p in head.parameters())
        rows.append(
            {
                "arm": arm.name,
                "parameters_M": parameters / 1e6,
                "forward_ms": forward_ms,
                "forward_backward_ms": 1e3 * median(times),
                "peak_MB": (4 * parameters + peak_memory(training)) / 1e6,
            }
        )
    report("costs", rows, "python -m benchmarks.photographs --costs", folder)


def score(head: nn.Module, maps: Tensor) -> Tensor:
    return head(maps if head.on_maps else maps.mean(1))


def step(head: nn.Module, maps: Tensor, labels: Tensor):
    logits, penalty = score(head, maps)
    (asymmetric_loss(logits, labels, 0, 2) + penalty).backward()
    head.zero_grad()
