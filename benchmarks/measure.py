"""How the benchmarks measure: side by side in one process, and with what they ran on beside the figures."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

RESULTS = Path(__file__).parent / "results"
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
PACKAGES = ("torch", "torchvision", "transformers", "timm", "accelerate")


def seconds(
    calls: Mapping[str, Callable[[], object]], rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Times each call once a round, in turn, so that a slow moment strikes all of them.

    Right before it is timed each call runs once untimed: caches and memory are then its own, not its predecessor's. For
    calls of one thread the process's own time, `time.process_time`, leaves out what other jobs take.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            _synchronize()
            started = clock()
            call()
            _synchronize()
            times[name].append(clock() - started)
    return times


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> float:
    """Median over the rounds of one call's time over another's."""
    return median(a / b for a, b in zip(times[name], times[base], strict=True))


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes of tensors that a call holds at one time beyond those that were there before it."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = most = 0
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def environment() -> dict:
    """Hardware and versions."""
    device = torch.cuda.get_device_name() if GPU else _cpu_name()
    return {
        "date": date.today().isoformat(),
        "device": device,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def report(name: str, rows: list[dict], command: str, folder: Path = RESULTS):
    """Prints rows of equal keys as a table and writes them with their environment to `NAME.json` in the folder.

    A row that was measured elsewhere may have an `environment` of its own.
    """
    columns = [column for column in rows[0] if column != "environment"]
    cells = [columns] + [
        [f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "environment": environment(), "rows": rows}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _synchronize():
    if GPU:
        torch.cuda.synchronize()


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
