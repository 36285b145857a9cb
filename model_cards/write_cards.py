"""Measures anew what A is worth to the bundled models, and writes their cards: `python -m model_cards.write_cards`.

Weights, thresholds and what was measured of them stay; the validation split is the one that the cards name.
"""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard

from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.association_worth import points
from assocformer_hf.evaluation.saved_model import EvaluationArguments, evaluate_saved_model
from assocformer_hf.hub.model_folder import (
    CARD_FILE,
    MAP_FILE,
    PREDICTIONS_FILE,
    RECIPE_FILE,
    read_metrics,
    write_card,
    write_predictions,
    write_recipe,
)
from assocformer_hf.inference.tagger import Tagger
from assocformer_hf.saved_files import METRICS_FILE
from benchmarks.tables import fill_page, header, row
from model_cards import write_photographs_folder as photographs

PAGE = Path(__file__).parent.parent / "docs/interpretation.md"
SCENES = Path(__file__).parent / "assocformer-swin-tiny-scenes"
SCENES_NOTE = Path(__file__).parent / "scenes_note.md"


def measure_worth(folder: Path, dataset: str):
    """Writes what A is worth to the model of a folder into its `metrics.json`; 95% intervals over the images."""
    saved = evaluate_saved_model(EvaluationArguments(str(folder), dataset), SourceOptions(), Accelerator(cpu=True))
    metrics = read_metrics(folder)
    metrics["association"]["worth"] = saved.evaluation.association_worth
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")


def describe_scenes(folder: Path = SCENES):
    """Recipe, picture of predictions and card of the model of drawn scenes."""
    metrics, card = read_metrics(folder), ModelCard.load(folder / CARD_FILE)
    tagger = Tagger(folder, device="cpu")
    metrics |= {
        "parameters": tagger.model.num_parameters(),
        "image_size": tagger.processor.size["height"],
        "pooling": tagger.model.config.pooling,
    }
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")
    widget = card.data["widget"]
    write_recipe(metrics["run"], folder / RECIPE_FILE)
    samples = [decode_image(folder / example["src"]) for example in widget]
    write_predictions(folder, samples, folder / PREDICTIONS_FILE)
    (folder / MAP_FILE).unlink(missing_ok=True)  # no map of an A that is worth nothing
    write_card(folder)
    card = ModelCard.load(folder / CARD_FILE)
    card.data["widget"] = widget
    photographs.add_note(card, SCENES_NOTE.read_text(encoding="utf-8"))
    card.save(folder / CARD_FILE)


def worth_table(folders: Iterable[Path]) -> list[str]:
    """What each model loses with another A in the place of its own, in points of mAP."""
    table = header("model", "validation images", "validation mAP", "lost with ½", "lost with the mean A")
    for folder in folders:
        metrics = read_metrics(folder)
        worth = metrics["association"]["worth"]
        lost = [
            f"{points(one['lost'])} ({points(one['low'])} to {points(one['high'])})"
            for one in (worth["half"], worth["mean"])
        ]
        table.append(row(f"`{folder.name}`", f"{metrics['images']:,}", f"{100 * metrics['mAP']:.1f}", *lost))
    return table


def main():
    """Measures, where the photographs are at hand, and writes the cards."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", help="Folder of the photographs; without it their A is not measured again.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure_worth(SCENES, "scenes")
    describe_scenes()
    for bundled in photographs.MODELS.values():
        if args.dataset:
            measure_worth(bundled.folder, args.dataset)
        photographs.describe(read_metrics(bundled.folder)["test"]["rows"], bundled)
    write_page()


def write_page():
    """Fills the table of what A is worth from the files of the bundled models."""
    folders = (*(bundled.folder for bundled in photographs.MODELS.values()), SCENES)
    fill_page(PAGE, {"worth": worth_table(folders)})


if __name__ == "__main__":
    main()
