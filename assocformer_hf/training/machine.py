"""How many threads and loading processes suit a machine, and how long a run will take on it."""

import os
import time
from datetime import timedelta

import torch
from accelerate import Accelerator

from assocformer_hf.device import prepare_device

LARGE = 20_000_000  # parameters: on a CPU, an epoch of a few thousand photographs takes hours
FIRST_BATCHES = 20
FIRST_SECONDS = 10.0
SHORT = 60.0  # seconds; nobody needs an estimate of less


def share_cores(accelerator: Accelerator, num_workers: int | None = None) -> int:
    """Divides the cores between this process and its loading workers; more threads than cores cost a factor of ten.

    On a CPU the model gets the cores that the workers leave, unless `OMP_NUM_THREADS` says otherwise; beside a GPU the
    workers get all of them, up to eight.

    Args:
        accelerator: the device, and the number of processes.
        num_workers: of the loader, where they are given.

    Returns:
        The number of workers.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)), 1)
    on_cpu = accelerator.device.type == "cpu"
    if num_workers is None:
        num_workers = min(max(cores // 4, 1), 4) if on_cpu else min(cores, 8)
    prepare_device(accelerator.device, accelerator.mixed_precision)
    if on_cpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(cores - num_workers, 1))
    return num_workers


def hardware(accelerator: Accelerator) -> dict:
    """What a run computes on: its `device`, how many `units` of it (GPUs, or a CPU's threads), and its name."""
    device, count = accelerator.device.type, accelerator.num_processes
    if device == "cuda":
        return {"device": device, "units": count, "hardware": f"{count} × {torch.cuda.get_device_name()}"}
    threads = count * torch.get_num_threads()
    return {"device": "cpu", "units": threads, "hardware": f"{threads} CPU thread{'s' if threads > 1 else ''}"}


def size_warning(parameters: int, device: torch.device) -> str | None:
    """What to say before a training that a CPU is too slow for; None where it is not."""
    if device.type != "cpu" or parameters < LARGE:
        return None
    return (
        f"no GPU: {parameters / 1e6:.0f} M parameters train on this CPU for days; take a smaller --backbone, such as "
        "timm/tf_efficientnet_lite0.in1k, or a machine with a GPU"
    )


class TimeEstimate:
    """How long the whole run will take, said once, from its first batches.

    Args:
        batches: of the whole run.
        evaluated: images that are evaluated in the whole run, for each image that is trained on.
    """

    def __init__(self, batches: int, evaluated: float):
        # An image forward takes a third of the time of one forward and backward.
        self.batches = batches * (1 + evaluated / 3)
        self.first: tuple[float, int] | None = None
        self.done = False

    def after(self, batch: int) -> str | None:
        """Called after each step with the number of batches of the epoch so far; the line to print, once."""
        now = time.perf_counter()
        if self.done:
            return None
        # The first of an epoch compiles, allocates, and waits for the workers or for an evaluation.
        if self.first is None or batch <= self.first[1]:
            self.first = now, batch
            return None
        seconds, count = now - self.first[0], batch - self.first[1]
        if seconds < FIRST_SECONDS and count < FIRST_BATCHES:
            return None
        self.done = True
        whole = seconds / count * self.batches
        if whole < SHORT:
            return None
        return f"about {timedelta(seconds=round(whole))} for the whole run, estimated from {count} batches"
