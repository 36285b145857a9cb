"""What the recipes to try the package with come to: `python -m benchmarks.recipes COCO_MINI`.

Small models are trained anew: on the drawn scenes with two seeds, and until they know 80 photographs by heart, of a
folder in COCO's official layout whose splits are `train2017` and `val2017`. The bundled model of drawn scenes is
calibrated, and its A compared with what goes together.
"""

import json
import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from assocformer_hf import train
from assocformer_hf.data.checks.check import cooccurrence
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.scenes.scenes import load_scenes
from assocformer_hf.evaluation.options import CalibrationOptions, EvaluationArguments
from assocformer_hf.evaluation.saved_model import evaluate_saved_model
from assocformer_hf.hub.calibrate_model import calibrate
from assocformer_hf.interpretation.association_map import conditional_cooccurrence, cooccurrence_correlation
from benchmarks.measure import report

TRAIN = "accelerate launch examples/train.py"
SCENES = "model_cards/assocformer-swin-tiny-scenes"


def evaluated(model: str | Path, dataset: str, **options):
    return evaluate_saved_model(EvaluationArguments(str(model), dataset, **options), SourceOptions(), Accelerator())


def trained(what: str, command: str, dataset: str, folder: Path, **options) -> dict:
    """A training from nothing, and the mAP of its best weights."""
    metrics = train(dataset, output_dir=folder, **options).metrics
    found = {"mAP": metrics["mAP"], "chance": metrics["chance_mAP"]}
    return {"what": what, "command": f"{TRAIN} {command}".strip(), "found": found}


def learned_by_heart(backbone: str, coco: str, folder: Path) -> list[dict]:
    """A training on 80 photographs that are evaluated too, and what it says of others."""
    command = f"--config memorize --backbone {backbone} --dataset coco --data_dir COCO_MINI"
    command += " --train_split train2017 --eval_split train2017"
    splits = {"data_dir": coco, "train_split": "train2017", "eval_split": "train2017"}
    row = trained(
        f"80 photographs of COCO learned by heart, {backbone}, and the mAP on these", command, "coco", folder,
        config="memorize", backbone=backbone, **splits,
    )  # fmt: skip
    metrics = evaluated(folder, "coco", data_dir=coco, split="val2017").evaluation.metrics
    others = {"mAP": metrics["mAP"], "chance": metrics["chance_mAP"]}
    command = "assocformer evaluate --model outputs/assocformer --dataset coco --data_dir COCO_MINI --split val2017"
    return [row, {"what": "the same model on 79 others", "command": command, "found": others}]


def calibrated() -> list[dict]:
    """What thresholds and scaling do to the bundled model on images that did not choose them; first as it is."""
    saved, rows = evaluated(SCENES, "scenes"), []
    choices = ({}, {"per_label": True}, {"per_label": True, "min_positives": 1},
               {"goal": "precision", "value": 0.95}, {"goal": "recall", "value": 0.95})  # fmt: skip
    for choice in choices:
        model = deepcopy(saved.model)
        _, found, _ = calibrate(replace(saved, model=model), CalibrationOptions(Path("calibrated"), **choice))
        metrics, errors = found["thresholds"], found["ECE"]
        if not rows:
            rows.append({"options": "none: 0.5"} | metrics["before"] | {"ECE": errors["before"]})
        given = " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in choice.items())
        options = f"`{given}`" if given else "one threshold for F1 (the default)"
        rows.append({"options": options} | metrics["held_out"] | {"ECE": errors["held_out"]})
    return rows


def associated() -> dict:
    """Mean A of the bundled model beside the co-occurrence of the labels."""
    association = evaluated(SCENES, "scenes").evaluation.association
    expected = conditional_cooccurrence(*cooccurrence(load_scenes("train")))
    correlation = cooccurrence_correlation(np.asarray(association), expected)
    found = {"Spearman's ρ": correlation.rho, "least": correlation.low, "most": correlation.high}
    command = "python -m benchmarks.recipes"
    return {"what": "mean A of that model beside the labels' co-occurrence, with its 95% interval", "command": command,
            "found": found}  # fmt: skip


def main(coco: str):
    torch.set_num_threads(1)
    metrics = json.loads(Path(SCENES, "metrics.json").read_text())
    options = "--config scenes --backbone micro-swin --association_norm none --epochs 20"
    bundled = {"mAP": metrics["mAP"], "chance": metrics["chance_mAP"]}
    rows = [{"what": f"the bundled model of drawn scenes, `{Path(SCENES).name}`", "command": f"{TRAIN} {options}",
             "found": bundled}, associated()]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0, 1):
            what = f"the embedded training set `scenes`, tiny CvT, seed {seed}"
            command = f"--seed {seed}" if seed else ""
            rows.append(trained(what, command, "scenes", Path(folder, f"scenes-{seed}"), seed=seed))
        for backbone in ("tiny-swin", "tiny-cvt"):
            rows += learned_by_heart(backbone, coco, Path(folder, backbone))
    report("recipes", rows, "python -m benchmarks.recipes COCO_MINI")
    report("thresholds", calibrated(), "python -m benchmarks.recipes COCO_MINI")


if __name__ == "__main__":
    main(sys.argv[1])
