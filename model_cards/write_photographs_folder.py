"""Makes a folder of a bundled model of photographs from a trained and calibrated one.

The weights are halved to float16 (they are computed with in float32), the sample photographs become the widget's, and
the test split is measured, beside other models where they are named.
"""

import json
import shutil
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.evaluation.saved_model import EvaluationArguments, evaluate_saved_model
from assocformer_hf.hub.model_folder import (
    CALIBRATION_FILES,
    CARD_FILE,
    HANDLER,
    MODEL_FILES,
    MODEL_ROOM,
    PREDICTIONS_FILE,
    RECIPE_FILE,
    REMOTE_CODE,
    SAMPLES,
    read_metrics,
    write_card,
    write_predictions,
    write_recipe,
)
from assocformer_hf.saved_files import METRICS_FILE
from benchmarks.measure import report
from benchmarks.photographs_fine_tuned import Runs, bundled_above, fine_tuned_runs, shared_seeds

CARDS = Path(__file__).parent
FEW = 500  # photographs, for a test that takes seconds
RESAMPLES = 1000
THIS = "this model"
LICENSE = "apache-2.0"  # of the bundled models, as of the package


@dataclass(frozen=True)
class Bundled:
    """A bundled model of photographs.

    Attributes:
        folder: where it is.
        note: what a reader of its card should know and no figure says, as Markdown.
        results: name of its file in `benchmarks/results`.
        base_model: on the Hub; None where it was trained from random weights.
    """

    folder: Path
    note: Path
    results: str
    base_model: str | None


FOLDER = CARDS / "assocformer-efficientnet-lite0-mirflickr"
FINE_TUNED = Bundled(
    FOLDER, CARDS / "photographs_note.md", "photographs_model", base_model="timm/tf_efficientnet_lite0.in1k"
)
DISTILLED = Bundled(
    CARDS / "assocformer-tiny-swin-mirflickr", CARDS / "photographs_student_note.md", "photographs_student", None
)
MODELS = {"fine-tuned": FINE_TUNED, "distilled": DISTILLED}
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


def test_rows(folders: dict[str, Path], dataset: str) -> list[dict]:
    """What models reach on the test split, with 95% intervals of a bootstrap over the photographs.

    Args:
        folders: of calibrated models, by the names of their rows; the first is the one that others are compared with.
        dataset: folder of the photographs.

    Returns:
        A row for each: mAP, CF1 and OF1 with the ends of their intervals, and how far the mAP of the first lies above
        it on the same resamples of the photographs.
    """
    rows, first, threshold_of_first = [], None, 0.5
    for name, folder in folders.items():
        args = EvaluationArguments(model=str(folder), dataset=dataset, split="test")
        saved = evaluate_saved_model(args, SourceOptions(), Accelerator(cpu=True))
        thresholds, evaluation = np.array(saved.model.config.thresholds), saved.evaluation
        if first is None:
            first, threshold_of_first = evaluation, thresholds
        row = {"model": name, "photographs": len(evaluation.scores)}
        intervals = bootstrap_metrics(evaluation.scores, evaluation.targets, thresholds, resamples=RESAMPLES)
        for key in ("mAP", "CF1", "OF1"):
            low, high = intervals[key].tolist()
            row |= {key: float(evaluation.metrics[key]), f"{key} from": low, f"{key} to": high}
        few = evaluation.indices < FEW
        row[f"mAP of the first {FEW}"] = multilabel_metrics(evaluation.scores[few], evaluation.targets[few])["mAP"]
        both = first.scores, first.targets, threshold_of_first
        below = bootstrap_metrics(*both, resamples=RESAMPLES, compared=(evaluation.scores, thresholds))
        low, high = below["mAP"].tolist()
        row |= {"below the first": float(first.metrics["mAP"]) - row["mAP"]}
        row |= {"below the first from": low, "below the first to": high}
        rows.append(row)
    return rows


def sample_pictures() -> list[Image.Image]:
    """The photographs of the folder that the card shows."""
    return [decode_image(FOLDER / SAMPLES / name) for name in TITLES]


def main():
    """Writes the folder, and its file in `benchmarks/results`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=MODELS, default="fine-tuned", help="Which of the bundled models.")
    parser.add_argument("--model", type=Path, required=True, help="Folder of the calibrated model.")
    parser.add_argument("--dataset", required=True, help="Folder of the photographs.")
    parser.add_argument("--beside", nargs="+", default=[], metavar="NAME=FOLDER",
                        help="Calibrated models to measure beside it.")  # fmt: skip
    args = parser.parse_args()
    bundled = MODELS[args.kind]
    folder = bundled.folder
    folder.mkdir(exist_ok=True)
    for name in sorted({*MODEL_FILES, *CALIBRATION_FILES}):  # a map of A is among them where A is worth it
        if (args.model / name).is_file():
            shutil.copyfile(args.model / name, folder / name)
    for file in (*(MODEL_ROOM / name for name in REMOTE_CODE), HANDLER):
        shutil.copyfile(file, folder / file.name)
    if not (folder / SAMPLES).exists():
        shutil.copytree(FOLDER / SAMPLES, folder / SAMPLES)
    halve_weights(folder / "model.safetensors")
    torch.set_num_threads(1)
    beside = {name: Path(path) for name, _, path in (each.partition("=") for each in args.beside)}
    rows = test_rows({THIS: folder} | beside, args.dataset)
    report(bundled.results, rows, f"python -m model_cards.write_photographs_folder --kind {args.kind}")
    describe(rows, bundled)


def describe(rows: list[dict], bundled: Bundled = FINE_TUNED):
    """Writes what was measured on the test split into `metrics.json` and the card."""
    folder, base_model = bundled.folder, bundled.base_model
    metrics = read_metrics(folder) | {"test": {"split": "test", "rows": rows}}
    if base_model is not None:
        metrics["run"]["base_model"] = metrics["run"]["options"]["backbone"] = base_model
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")
    write_recipe(metrics["run"], folder / RECIPE_FILE)
    write_predictions(folder, sample_pictures(), folder / PREDICTIONS_FILE)
    write_card(folder)
    card = ModelCard.load(folder / CARD_FILE)
    card.data["widget"] = [{"src": f"{SAMPLES}/{name}", "example_title": title} for name, title in TITLES.items()]
    note = bundled.note.read_text(encoding="utf-8")
    note = note.replace("{{ beside }}", comparisons(rows)).replace("{{ seeds }}", seeds_sentence(fine_tuned_runs()))
    add_note(card, note)
    card.save(folder / CARD_FILE)


def add_note(card: ModelCard, note: str):
    """Adds what no figure says to a card: the licence, and a note above its evaluation."""
    card.data["license"] = LICENSE
    card.content = card.content.replace("## Evaluation", f"{note}\n## Evaluation", 1)


def comparisons(rows: list[dict]) -> str:
    """A sentence for each model that was measured beside the first."""
    sentence = "On test, {} has a mAP of {:.1f}; this model lies {:.1f} above it ({:.1f} to {:.1f}, 95% interval)."
    keys = ("mAP", "below the first", "below the first from", "below the first to")
    return "\n".join(sentence.format(row["model"], *(100 * row[key] for key in keys)) for row in rows[1:])


def seeds_sentence(runs: Runs) -> str:
    """What the fine-tuned model's head is above the linear one over the seeds, in points of mAP."""
    difference = f"{bundled_above(runs, 'linear')} points of mAP on test (± standard error)"
    seeds = len(shared_seeds(runs, "linear"))
    return f"Over {seeds} seeds of both, the others in float32, the difference is {difference}."


if __name__ == "__main__":
    main()
