"""Threads, workers, warnings and estimates follow the machine."""

import time
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from assocformer_hf.training import machine
from assocformer_hf.training.machine import TimeEstimate, share_cores, size_warning


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


@pytest.mark.skipif(not hasattr(machine.os, "sched_getaffinity"), reason="cores of a process are known on Linux only")
@pytest.mark.parametrize(
    ("cores", "processes", "given", "expected"),
    [
        (2, 1, None, (1, 1)),  # workers, threads
        (16, 1, None, (4, 12)),
        (16, 8, None, (1, 1)),
        (1, 1, None, (1, 1)),
        (8, 1, 0, (0, 8)),
    ],
)
def test_threads_and_workers_share_the_cores(monkeypatch, accelerator, cores, processes, given, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(cores)))
    before = torch.get_num_threads()
    try:
        assert (share_cores(accelerator, given), torch.get_num_threads()) == expected
        torch.set_num_threads(1)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # somebody decided already
        share_cores(accelerator, given)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_workers_beside_a_gpu_take_the_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert share_cores(SimpleNamespace(device=torch.device("cuda"), num_processes=2, mixed_precision="no")) == 4


def test_a_large_model_without_a_gpu_is_warned_of():
    assert "no GPU: 196 M parameters" in size_warning(196_000_000, torch.device("cpu"))
    assert size_warning(196_000_000, torch.device("cuda")) is None
    assert size_warning(5_000_000, torch.device("cpu")) is None


def test_the_estimate_is_said_once_and_counts_the_evaluation():
    estimate = TimeEstimate(batches=1_000_000, evaluated=3.0)
    started = time.perf_counter()
    said = []
    for batch in range(1, 60):
        time.sleep(0.001)
        said.append((estimate.after(batch), time.perf_counter() - started))
    lines = [(line, seconds) for line, seconds in said if line]
    assert len(lines) == 1
    hours = int(lines[0][0].removeprefix("about ").split(":")[0])
    assert hours * 3600 <= 2 * lines[0][1] / 20 * 1_000_000
    assert hours * 3600 >= 2 * 0.001 * 1_000_000 - 3600
    assert TimeEstimate(50, 0.0).after(1) is None


def test_the_estimate_begins_again_with_an_epoch(monkeypatch):
    """Short epochs on a slow machine: batches are counted from 1 again, and an evaluation lies between."""
    now = iter(range(0, 1000, 6))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: float(next(now)))
    estimate = TimeEstimate(1000, 0.0)
    assert [estimate.after(batch) for batch in (1, 2, 1, 2, 1)] == [None] * 5
    assert estimate.after(2) is None
    assert estimate.after(3) == "about 1:40:00 for the whole run, estimated from 2 batches"
    assert estimate.after(4) is None


def test_short_runs_are_not_estimated():
    short = TimeEstimate(50, 0.0)
    assert not any(short.after(batch) for batch in range(1, 50))
