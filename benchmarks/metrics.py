"""Mean average precision against scikit-learn and torchmetrics, and on scores that do not fit in memory.

`python -m benchmarks.metrics`: COCO's size, 40,504 images x 80 labels; Open Images' validation size, 125,456 x 9,605,
from files, with its peak memory.
"""

import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import multilabel_average_precision

from assocformer_hf import multilabel_metrics
from assocformer_hf.evaluation.metrics import average_precision
from benchmarks.measure import ratio, report, seconds


def compare(images: int = 40_504, labels: int = 80, rounds: int = 3) -> list[dict]:
    generator = np.random.default_rng(0)
    targets = (generator.random((images, labels)) < 0.036).astype(np.int8)
    scores = (generator.random(targets.shape, dtype=np.float32) + 0.5 * targets).clip(0, 1.4) / 1.4
    tensors = torch.from_numpy(scores), torch.from_numpy(targets).long()
    calls = {
        "ours": lambda: average_precision(scores, targets).mean(),
        "scikit-learn": lambda: average_precision_score(targets, scores, average="macro"),
        "torchmetrics": lambda: multilabel_average_precision(*tensors, num_labels=labels, average="macro").item(),
    }
    values = {name: float(call()) for name, call in calls.items()}
    times = seconds(calls, rounds)
    return [
        {
            "what": f"mAP of {images} x {labels}, ours over {name}",
            "time_ratio": ratio(times, "ours", name),
            "difference": abs(values["ours"] - values[name]),
            "ours_s": min(times["ours"]),
        }
        for name in ("scikit-learn", "torchmetrics")
    ]


def open_images(images: int = 125_456, labels: int = 9605) -> dict:
    """All metrics of a table of 6 GB on disk; memory is what is allocated on top of the mapped files."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        scores = np.memmap(Path(folder) / "scores", np.float32, "w+", shape=(images, labels))
        targets = np.memmap(Path(folder) / "targets", np.int8, "w+", shape=(images, labels))
        for start in range(0, images, 4096):
            block = scores[start : start + 4096]
            generator.random(out=block, dtype=np.float32)
            targets[start : start + 4096] = generator.random(block.shape, dtype=np.float32) < 0.001
        tracemalloc.start()
        started = time.perf_counter()
        result = multilabel_metrics(scores, targets)
        elapsed, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return {
        "what": f"all metrics of {images} x {labels} from files",
        "seconds": elapsed,
        "GB_on_disk": images * labels * 5 / 1e9,
        "peak_MiB": peak / 2**20,
        "mAP": result["mAP"],
        "chance_mAP": result["chance_mAP"],
    }


def main():
    report("metrics", compare(), "python -m benchmarks.metrics")
    report("metrics_open_images", [open_images()], "python -m benchmarks.metrics")


if __name__ == "__main__":
    main()
