"""Makes the folder of the bundled model of photographs from a trained and calibrated one.

The weights are halved to float16 (they are computed with in float32), the sample photographs become the widget's, and
the test split is measured, once, beside a linear head that was trained alike.
"""

import json
import shutil
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.evaluation.saved_model import EvaluationArguments, evaluate_saved_model
from assocformer_hf.hub.model_folder import (
    CALIBRATION_FILES,
    CARD_FILE,
    HANDLER,
    MAP_FILE,
    METRICS_FILE,
    MODEL_FILES,
    MODEL_ROOM,
    REMOTE_CODE,
    SAMPLES,
    read_metrics,
    write_card,
)
from benchmarks.measure import report

FOLDER = Path(__file__).parent / "assocformer-efficientnet-lite0-mirflickr"
FEW = 500  # photographs, for a test that takes seconds
BASE_MODEL = "timm/tf_efficientnet_lite0.in1k"
# What a reader of the card should know and no figure says.
NOTE = Path(__file__).with_name("photographs_note.md").read_text(encoding="utf-8")
TITLES = {
    "temple.jpg": "A temple",
    "flower.jpg": "A dahlia",
    "cat.jpg": "A cat",
    "coffee.jpg": "A cup of coffee",
    "rocket.jpg": "A rocket",
}


def halve_weights(file: Path):
    """Rewrites a file of weights in float16; the configuration still says float32, in which they are loaded."""
    weights = {name: value.half() if value.is_floating_point() else value for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def test_row(name: str, folder: Path, dataset: str) -> dict:
    """What a model reaches on the test split, with 95% intervals of a bootstrap over the photographs."""
    args = EvaluationArguments(model=str(folder), dataset=dataset, split="test")
    saved = evaluate_saved_model(args, SourceOptions(), Accelerator(cpu=True))
    config, evaluation = saved.model.config, saved.evaluation
    intervals = bootstrap_metrics(evaluation.scores, evaluation.targets, np.array(config.thresholds), resamples=1000)
    row = {"model": name, "photographs": len(evaluation.scores)}
    for key in ("mAP", "CF1", "OF1"):
        low, high = intervals[key].tolist()
        row |= {key: float(evaluation.metrics[key]), f"{key} from": low, f"{key} to": high}
    few = evaluation.indices < FEW
    row[f"mAP of the first {FEW}"] = multilabel_metrics(evaluation.scores[few], evaluation.targets[few])["mAP"]
    return row


def main():
    """Writes the folder, and `benchmarks/results/photographs_model.json`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Folder of the calibrated model.")
    parser.add_argument("--linear", type=Path, help="Folder of a calibrated linear head that was trained alike.")
    parser.add_argument("--dataset", required=True, help="Folder of the photographs.")
    args = parser.parse_args()
    # Without a map: A of heads on these photographs says nothing of a photograph (docs/photographs.md).
    for name in sorted({*MODEL_FILES, *CALIBRATION_FILES} - {MAP_FILE}):
        if (args.model / name).is_file():
            shutil.copyfile(args.model / name, FOLDER / name)
    for file in (*(MODEL_ROOM / name for name in REMOTE_CODE), HANDLER):
        shutil.copyfile(file, FOLDER / file.name)
    halve_weights(FOLDER / "model.safetensors")
    torch.set_num_threads(1)
    rows = [test_row("this model", FOLDER, args.dataset)]
    if args.linear:
        rows.append(test_row("linear head", args.linear, args.dataset))
    report("photographs_model", rows, "python -m model_cards.write_photographs_folder")
    describe(rows)


def describe(rows: list[dict]):
    """Writes what was measured on the test split into `metrics.json` and the card."""
    metrics = read_metrics(FOLDER) | {"test": {"split": "test", "rows": rows}}
    metrics["run"]["base_model"] = metrics["run"]["options"]["backbone"] = BASE_MODEL
    (FOLDER / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")
    write_card(FOLDER)
    card = ModelCard.load(FOLDER / CARD_FILE)
    card.data["widget"] = [{"src": f"{SAMPLES}/{name}", "example_title": title} for name, title in TITLES.items()]
    card.content = card.content.replace("## Evaluation", f"{NOTE}\n## Evaluation", 1)
    card.save(FOLDER / CARD_FILE)


if __name__ == "__main__":
    main()
