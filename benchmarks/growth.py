"""How time and memory grow with the images and with the labels.

`python -m benchmarks.growth [MOST_IMAGES]`: each point in a process of its own, one thread; processor time, and the
most memory beyond what the process held before. The slope is that of time between the two largest sizes, 1 being
linear. A size is left out where the one before it took over a minute of the processor.
"""

import csv
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path

import datasets
import numpy as np
import psutil
import torch
from PIL import Image

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, Tagger, load_multilabel_dataset
from assocformer_hf.data.checks.check import check_labels
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.schema import multilabel_features
from assocformer_hf.data.split import iterative_stratification
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.interpretation.association_map import plot_association_map
from assocformer_hf.interpretation.explanation import explain_image
from assocformer_hf.model.association import AssociationHead
from assocformer_hf.model.losses import association_penalty_from_sums, asymmetric_loss
from assocformer_hf.model.presets import tiny_cvt
from assocformer_hf.pages.report import ReportInput, write_report
from benchmarks.measure import RESULTS, report

LABELS, PER_FOLDER, PATIENCE = 24, 1000, 60.0
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
Prepared = Callable[[], object]  # what is measured, once everything that it needs is there


def labels_of(images: int, labels: int = LABELS) -> list[list[int]]:
    """Label lists with some frequent and many rare ones."""
    generator = np.random.default_rng(0)
    chosen = generator.random((images, labels)) < np.geomspace(0.4, 0.01, labels)
    return [np.flatnonzero(row).tolist() for row in chosen]


def scores_of(images: int, labels: int = LABELS) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    targets = (generator.random((images, labels)) < min(0.1, 4 / labels)).astype(np.int8)
    targets[0] = 1
    return (generator.random(targets.shape, dtype=np.float32) + targets) / 2, targets


def reading_a_table(images: int, folder: Path) -> Prepared:
    """CSV with a column of splits; the files are there, and nothing is in them."""
    table = folder / "photos.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "labels", "split"))
        for i, row in enumerate(labels_of(images)):
            writer.writerow((image_path(i), "|".join(f"label{c}" for c in row), "train" if i % 5 else "validation"))
    return lambda: load_multilabel_dataset(table)


def image_path(i: int) -> str:
    return f"{i // PER_FOLDER:04d}/{i:07d}.jpg"


def write_files(folder: Path, images: int):
    for i in range(images):
        if i % PER_FOLDER == 0:
            (folder / image_path(i)).parent.mkdir()
        (folder / image_path(i)).touch()


def splitting(images: int, folder: Path) -> Prepared:
    labels = labels_of(images)
    return lambda: iterative_stratification(labels, LABELS, 0.2, 0)


def checking_labels(images: int, folder: Path) -> Prepared:
    rows = {"image": ["a.jpg"] * images, "labels": labels_of(images)}
    dataset = datasets.Dataset.from_dict(rows, features=multilabel_features([f"label{c}" for c in range(LABELS)]))
    return lambda: check_labels({"train": dataset, "validation": dataset.select(range(images // 5))})


def tagging(images: int, folder: Path) -> Prepared:
    """Files of 160x120 pixels, a tiny CvT at 64x64."""
    model, file = folder / "model", folder / "photo.jpg"
    torch.manual_seed(0)
    names = {c: f"label{c}" for c in range(LABELS)}
    AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=tiny_cvt(), id2label=names)).save_pretrained(model)
    create_image_processor(64).save_pretrained(model)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120)).save(file)
    tagger, content = Tagger(model), file.read_bytes()
    return lambda: [tagger([content] * 100) for _ in range(images // 100)]


def metrics_of_images(images: int, folder: Path) -> Prepared:
    scores, targets = scores_of(images)
    return lambda: multilabel_metrics(scores, targets)


def report_of(images: int, labels: int, folder: Path) -> Prepared:
    (folder / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(photo := folder / "photos/photo.jpg")
    names = [f"label{c}" for c in range(labels)]
    rows = {"image": [str(photo)] * images, "labels": [[]] * images}
    dataset = datasets.Dataset.from_dict(rows, features=multilabel_features(names))
    scores, targets = scores_of(images, labels)
    found = Evaluation(
        multilabel_metrics(scores, targets), scores, targets, np.arange(images), [], None, None, None,
    )  # fmt: skip
    return lambda: write_report(folder / "report", ReportInput("growth", found, names, 0.5, dataset))


def report_of_images(images: int, folder: Path) -> Prepared:
    return report_of(images, LABELS, folder)


def report_of_labels(labels: int, folder: Path) -> Prepared:
    return report_of(500, labels, folder)


def head(labels: int, folder: Path) -> Prepared:
    """Forward and backward with the norm of A, four images, d=256."""
    one = AssociationHead(256, labels)
    features = torch.rand(4, 256, requires_grad=True)

    def step():
        scores = one(features)
        sums = scores.association_sums
        if sums is None:
            sums = torch.stack([scores.association.sum((1, 2)), scores.association.square().sum((1, 2))], dim=1)
        (scores.logits.square().mean() + 0.1 * association_penalty_from_sums(sums)).backward()

    return step


def loss(labels: int, folder: Path) -> Prepared:
    """Forward and backward, 256 images."""
    logits, targets = torch.randn(256, labels, requires_grad=True), (torch.rand(256, labels) < 0.1).float()
    return lambda: asymmetric_loss(logits, targets, 0, 2, 0).backward()


def metrics_of_labels(labels: int, folder: Path) -> Prepared:
    scores, targets = scores_of(1000, labels)
    return lambda: multilabel_metrics(scores, targets)


def explaining(labels: int, folder: Path) -> Prepared:
    """One image, its likeliest label, the model's forward pass included."""
    names = {c: f"label{c}" for c in range(labels)}
    model = AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=tiny_cvt(), id2label=names)).eval()
    image = torch.rand(1, 3, 64, 64)
    return lambda: explain_image(model, image, ["label0"])


def association_map(labels: int, folder: Path) -> Prepared:
    keys = np.random.default_rng(0).normal(size=(labels, 4))
    association, names = 1 / (1 + np.exp(-keys @ keys.T)), [f"label{c}" for c in range(labels)]
    return lambda: plot_association_map(association, names, folder / "map.png")


BY_IMAGES = {
    "reading a table": (reading_a_table, IMAGES),
    "splitting": (splitting, IMAGES),
    "checking labels": (checking_labels, IMAGES),
    "tagging": (tagging, (100, 1_000, 10_000)),
    "metrics": (metrics_of_images, IMAGES),
    "report": (report_of_images, IMAGES[:3]),
}
BY_LABELS = {
    "head": (head, (10, 100, 1_000, 10_000)),
    "loss": (loss, (10, 100, 1_000, 10_000)),
    "metrics": (metrics_of_labels, (10, 100, 1_000, 10_000)),
    "report": (report_of_labels, (10, 100, 1_000, 10_000)),
    "explain": (explaining, (10, 100, 1_000, 10_000)),
    "map of A": (association_map, (10, 100, 1_000)),  # above, A is not held whole
}


def measured(prepare: Callable[[int, Path], Prepared], size: int, folder: Path) -> dict:
    """Processor seconds and MiB of one call in a process of its own; of short calls the first is not counted."""
    (place := folder / f"{prepare.__name__}-{size}").mkdir()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    own = folder if prepare is reading_a_table else place  # the image files are there
    process = context.Process(target=_measure, args=(prepare, size, own, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"{prepare.__name__} of {size}: its process ended") from error
    finally:
        process.join()


def _measure(prepare: Callable[[int, Path], Prepared], size: int, folder: Path, sender):
    call = prepare(size, folder)
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is from here on
    times = []
    # A first call that is long needs no second one: what it warms up is small beside it.
    while not times or sum(times) < 1 and len(times) < 20:
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    peak = next(
        1024 * int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    best = min(times[1:] or times)
    sender.send({"seconds": best, "MiB": max(peak - before, 0) / 2**20})


def slope(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """The exponent of growth between the two largest sizes."""
    if len(sizes) < 2:
        return None
    return log(values[-1] / values[-2]) / log(sizes[-1] / sizes[-2])


def series(tasks: dict, by: str, most: int, folder: Path) -> list[dict]:
    rows = []
    for name, (prepare, sizes) in tasks.items():
        points: list[tuple[int, dict]] = []
        for size in (size for size in sizes if size <= most):
            if points and points[-1][1]["seconds"] > PATIENCE:
                break
            points.append((size, measured(prepare, size, folder)))
            print(by, name, size, json.dumps(points[-1][1]), flush=True)
        done, found = zip(*points, strict=True)
        exponent = slope(done, [point["seconds"] for point in found])
        rows += [{"by": by, "what": name, "size": n, **point, "slope": exponent} for n, point in points]
    return rows


def plot(rows: list[dict]):
    """Time and memory by images and by labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    colours = {name: f"C{place}" for place, name in enumerate(dict.fromkeys(row["what"] for row in rows))}
    for (by, what), axes in zip(
        [("images", "seconds"), ("labels", "seconds"), ("images", "MiB"), ("labels", "MiB")],
        figure.subplots(2, 2).flat,
        strict=True,
    ):
        own = [row for row in rows if row["by"] == by]
        for name in dict.fromkeys(row["what"] for row in own):
            points = [row for row in own if row["what"] == name]
            grows = f" (slope {points[0]['slope']:.2f})" if what == "seconds" and points[0]["slope"] else ""
            heights = [max(row[what], 0.1 if what == "MiB" else 1e-5) for row in points]
            axes.loglog(
                [row["size"] for row in points], heights, "o-", color=colours[name], markersize=4, label=name + grows
            )
        axes.set(xlabel=by, ylabel="processor seconds" if what == "seconds" else "MiB beyond the inputs")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))  # beside the points
    figure.savefig(RESULTS / "growth.png", dpi=110)


def main(most: str = "1000000"):
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), int(most))
        rows = series(BY_IMAGES, "images", int(most), Path(folder)) + series(BY_LABELS, "labels", 10**9, Path(folder))
    report("growth", rows, "python -m benchmarks.growth" + f" {most}" * (most != "1000000"))
    plot(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
