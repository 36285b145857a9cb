"""Tagging photographs on a CPU in torch and in onnxruntime: speed from the file's bytes to the labels, and mAP.

`python -m benchmarks.runtimes MODEL DATASET` takes a trained model and the dataset that it was trained on. int8 is
fitted to training images. Speed is that of validation images, in turn in one process: of 256, from the bytes of the
files to the labels (`tags`: the next batch is decoded beside the model), and of a batch of 64 that is decoded
(`model`). torch.compile, and OpenVINO where it is installed, run the model alone beside it.
mAP and decisions are those of the first 1,000 validation images.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import datasets
import numpy as np
import torch
from torch import Tensor

from assocformer_hf import Tagger, load_multilabel_dataset
from assocformer_hf.evaluation.metrics import average_precision
from assocformer_hf.inference.images import InferenceImages, spread_images
from assocformer_hf.inference.options import RUNTIMES
from benchmarks.measure import report, seconds

BATCH, TAGGED, EVALUATED, CALIBRATED = 64, 256, 1000, 256


def openvino(path: Path) -> Callable[[Tensor], Tensor]:
    """A model of the ONNX file in OpenVINO."""
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = Core().compile_model(path, "CPU", settings)
    return lambda pixel_values: torch.from_numpy(model(pixel_values.numpy())[0])


@torch.inference_mode()
def score(tagger: Tagger, model: Callable[[Tensor], Tensor], pixels: Tensor) -> np.ndarray:
    inputs = tagger.processor(pixels, do_resize=False, return_tensors="pt")["pixel_values"]
    return model(inputs).sigmoid().numpy()


def main(model: str, source: str, rounds: int = 7):
    dataset = load_multilabel_dataset(source)
    train, validation = (
        dataset[name].cast_column("image", datasets.Image(decode=False)) for name in ("train", "validation")
    )
    calibration = spread_images(train, CALIBRATED)
    taggers = {name: Tagger(model, runtime=name, calibration=calibration) for name in RUNTIMES}
    reference = taggers["torch"]
    images = InferenceImages(validation.select(range(EVALUATED)), reference.processor)
    pixels = torch.stack([images[i][2] for i in range(EVALUATED)])
    targets = np.zeros((EVALUATED, len(reference.label_names)), int)
    for row, labels in zip(targets, validation["labels"][:EVALUATED], strict=True):
        row[labels] = 1
    contents = [row["bytes"] for row in validation[:TAGGED]["image"]]

    models = {name: partial(tagger.score, pixels[:BATCH]) for name, tagger in taggers.items()}
    compiled = torch.compile(reference.model)
    models["torch.compile"] = partial(score, reference, lambda inputs: compiled(inputs).logits, pixels[:BATCH])
    if find_spec("openvino"):
        models["OpenVINO"] = partial(score, reference, openvino(taggers["onnx"].onnx.path), pixels[:BATCH])
    whole = seconds({name: partial(tagger, contents) for name, tagger in taggers.items()}, rounds)
    alone = seconds(models, rounds)

    expected, rows = None, []
    for name in models:
        row = {"runtime": name}
        for part, times, images in (("tags", whole, TAGGED), ("model", alone, BATCH)):
            ratios = [a / b for a, b in zip(times["torch"], times.get(name, ()), strict=False)]
            row[f"{part}_images_per_second"] = images / median(times[name]) if ratios else None
            row[f"{part}_over_torch"] = [min(ratios), median(ratios), max(ratios)] if ratios else None
        scores = None
        if name in taggers:
            scores = np.concatenate([taggers[name].score(part) for part in pixels.split(BATCH)])
            expected = scores if expected is None else expected
        decisions = None if scores is None else (scores >= reference.thresholds) == (expected >= reference.thresholds)
        row["mAP"] = None if scores is None else 100 * float(average_precision(scores, targets).mean())
        row["equal_decisions"] = None if decisions is None else float(decisions.mean())
        rows.append(row)
    report("runtimes", rows, "python -m benchmarks.runtimes MODEL DATASET")


if __name__ == "__main__":
    main(*sys.argv[1:])
