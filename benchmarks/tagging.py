"""Tagging 20,000 images in two processes against the pipeline of transformers, and its memory over time.

`python -m benchmarks.tagging`: generated JPEG files of 480x360, a tiny CvT at 64x64 with random weights, batches of 32.
The pipeline gets the first 600 files, with and without workers, with one thread and two, in turn with the command. The
time to load the model counts on neither side.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow.parquet
import torch
from PIL import Image
from transformers import pipeline

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.model.presets import tiny_cvt
from assocformer_hf.wording import counted
from benchmarks.measure import report

ROOT = Path(__file__).parent.parent
BATCH = 32


def generate_images(folder: Path, count: int, width: int = 480, height: int = 360):
    """Blurred noise with grain: about as many bytes as a photo of the size."""
    generator = np.random.default_rng(0)
    grain = generator.normal(0, 6, (height, width, 1))
    folder.mkdir()
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + np.roll(grain, i)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:06d}.jpg", quality=85)


def save_model(folder: Path):
    """A tiny CvT with random weights, and its processor."""
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=tiny_cvt(), num_labels=20))
    model.save_pretrained(folder)
    create_image_processor(64).save_pretrained(folder)


def pipeline_rate(model: Path, files: list[str], threads: int, num_workers: int) -> float:
    """Images a second of the pipeline."""
    torch.set_num_threads(threads)
    tagger = pipeline("image-classification", model=str(model), batch_size=BATCH, num_workers=num_workers)
    tagger(files[:BATCH])
    started = time.perf_counter()
    tagger(files)
    return len(files) / (time.perf_counter() - started)


def tag(model: Path, images: Path, output: Path) -> tuple[float, list[float]]:
    """Images a second after the first shards, and the MiB of memory of all processes each half second."""
    command = [str(Path(sys.executable).parent / "torchrun"), "--nproc_per_node", "2"]
    command += ["-m", "assocformer_hf", "predict", "--model", str(model), "--images", str(images)]
    command += ["--output", str(output), "--batch_size", str(BATCH), "--num_workers", "1"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    memory = []
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        memory.append(memory_of(process.pid) / 2**20)
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode}")
    written = sorted(
        (path.stat().st_mtime, pyarrow.parquet.read_metadata(path).num_rows) for path in output.glob("tags-*")
    )
    return sum(rows for _, rows in written[2:]) / (written[-1][0] - written[1][0]), memory


def memory_of(pid: int) -> int:
    """Bytes of a process and its children; what several of them share counts once."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def main(count: int = 20_000, compared: int = 600, rounds: int = 2):
    settings = [(threads, workers) for threads in (1, 2) for workers in (0, 2)]
    theirs, ours = {setting: [] for setting in settings}, []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        generate_images(folder / "images", count)
        save_model(folder / "model")
        files = [str(folder / f"images/{i:06d}.jpg") for i in range(compared)]
        for i in range(rounds):
            for setting in settings:
                theirs[setting].append(pipeline_rate(folder / "model", files, *setting))
            rate, memory = tag(folder / "model", folder / "images", folder / f"out-{i}")
            ours.append(rate)
    rows = [{"what": f"predict, 2 processes, {count} images", "images_per_second": max(ours), "ours_over_it": 1.0}]
    for (threads, workers), rates in theirs.items():
        ratio = median(a / b for a, b in zip(ours, rates, strict=True))
        name = f"pipeline, {counted(threads, 'thread')}, num_workers={workers}"
        rows.append({"what": name, "images_per_second": max(rates), "ours_over_it": ratio})
    report("tagging", rows, "python -m benchmarks.tagging")
    tenths = [max(part) for part in np.array_split(memory, 10)]
    rows = [{"tenth_of_the_run": i + 1, "peak_MiB": round(float(peak))} for i, peak in enumerate(tenths)]
    report("tagging_memory", rows, "python -m benchmarks.tagging")


if __name__ == "__main__":
    main()
