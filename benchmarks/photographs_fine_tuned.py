"""The bundled model's training with other seeds, beside linear heads that are trained alike.

`python -m benchmarks.photographs_fine_tuned --dataset FOLDER --backbone FOLDER --runs FOLDER` trains whatever is
missing, in one thread, and goes on where it stopped, within an epoch too; a run takes 45 minutes. Of each the test
split is measured once, at the threshold that serves the validation split best. Seed 0 of the bundled model's head
and of the linear one is what `model_cards.write_photographs_folder` measured. With `--search` the linear head is
trained with other learning rates and weight decays in their place, and measured on validation alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from assocformer_hf import multilabel_metrics, train
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.options import EvaluationArguments
from assocformer_hf.evaluation.saved_model import evaluate_saved_model
from assocformer_hf.evaluation.thresholds import choose_thresholds
from assocformer_hf.training.arguments import RECIPES, head_decay_for
from assocformer_hf.wording import counted
from benchmarks.measure import RESULTS
from benchmarks.photographs_rows import Rows
from benchmarks.tables import header, over_seeds, row

COMMAND = "python -m benchmarks.photographs_fine_tuned"
FILE, SEARCH_FILE = "fine_tuned.json", "fine_tuned_search.json"
HEADS = {"am": {}, "linear": {"fusion": "linear", "pooling": "mean"}, "linear-attention": {"fusion": "linear"}}
TITLES = {"am": "AM with attention, as bundled", "linear": "linear", "linear-attention": "linear with attention"}
BESIDE = {"linear": "a linear head", "linear-attention": "a linear head with attention"}
SEEDS = (0, 1, 2)
KEYS = ("mAP", "CF1", "OF1")
PHOTOGRAPHS = 15_000  # to train on
SEARCHED, SEARCH_SEED = "linear", 1
SEARCH = (
    {"learning_rate": 1e-3, "backbone_learning_rate": 3e-4},
    {"learning_rate": 2.5e-4, "backbone_learning_rate": 7.5e-5},
    {"head_weight_decay": 10.0},
    {"head_weight_decay": 1.0},
)
Runs = Mapping[str, Mapping[int, dict]]  # by head and seed


def train_head(head: str, seed: int, dataset: str, backbone: str, folder: Path, **options) -> float:
    """Trains a head with its backbone, or goes on.

    Args:
        head: of `HEADS`.
        seed: of the run.
        dataset: folder of the photographs.
        backbone: folder of the pretrained backbone.
        folder: of the run, which holds the best weights then.
        options: of `train`, in the place of those of the bundled model.

    Returns:
        The mAP of the best weights on validation.
    """
    training = {"image_size": 192, "epochs": 2} | HEADS[head] | options
    trained = train(
        dataset, config="photographs", backbone=backbone, seed=seed, output_dir=str(folder), resume="auto",
        num_workers=0, report_to="none", mixed_precision="no", **training,
    )  # fmt: skip
    return float(trained.metrics["mAP"])


def search_head(point: Mapping[str, float], dataset: str, backbone: str, folder: Path, **options) -> dict:
    """Trains the linear head with a setting of `SEARCH`; returns the setting and its mAP on validation.

    Args:
        point: options of `train`.
        dataset: folder of the photographs.
        backbone: folder of the pretrained backbone.
        folder: of the run.
        options: others of `train`.
    """
    found = train_head(SEARCHED, SEARCH_SEED, dataset, backbone, folder, **point, **options)
    return {"head": SEARCHED, "seed": SEARCH_SEED, "setting": dict(point), "validation mAP": found}


def run(head: str, seed: int, dataset: str, backbone: str, folder: Path, **options) -> dict:
    """Trains, or goes on (`train_head`), and measures the best weights.

    Returns:
        The mAP on validation, and mAP, CF1 and OF1 on test.
    """
    train_head(head, seed, dataset, backbone, folder, **options)
    args, accelerator = EvaluationArguments(str(folder), dataset, split="validation"), Accelerator(cpu=True)
    validation, test = (
        evaluate_saved_model(replace(args, split=split), SourceOptions(), accelerator).evaluation
        for split in ("validation", "test")
    )
    threshold = choose_thresholds(validation.scores, validation.targets)
    metrics = multilabel_metrics(test.scores, test.targets, threshold)
    return {
        "head": head, "seed": seed, "validation mAP": float(validation.metrics["mAP"]),
        **{key: float(metrics[key]) for key in KEYS},
    }  # fmt: skip


def with_seed_0(rows: Sequence[dict], bundled: Sequence[dict]) -> Runs:
    """All runs; seed 0 of the first two heads are the bundled model and the linear head beside it."""
    runs: dict[str, dict[int, dict]] = {head: {} for head in HEADS}
    for head, one in zip(HEADS, bundled, strict=False):
        runs[head][0] = one
    for one in rows:
        runs[one["head"]][one["seed"]] = one
    return {head: own for head, own in runs.items() if own}


def shared_seeds(runs: Runs, head: str) -> list[int]:
    """The seeds that the bundled model's head and another were trained with."""
    return sorted(runs["am"].keys() & runs[head].keys())


def bundled_above(runs: Runs, head: str) -> str:
    """How many points of mAP the bundled model's head is above another: mean and error, seed by seed."""
    seeds = shared_seeds(runs, head)
    return over_seeds([100 * (runs["am"][seed]["mAP"] - runs[head][seed]["mAP"]) for seed in seeds], "+")


def fine_tuned_table(runs: Runs) -> list[str]:
    """The heads on test over their seeds, and how far the bundled model's is above each."""
    table = header("head", "seeds", *KEYS, "mAP of the bundled one above it")
    for head, own in runs.items():
        cells = [over_seeds([100 * one[key] for one in own.values()]) for key in KEYS]
        table.append(row(TITLES[head], str(len(own)), *cells, "–" if head == "am" else bundled_above(runs, head)))
    return table


def search_table(searched: Sequence[dict], runs: Runs) -> list[str]:
    """What the linear head of one seed reaches on validation with other settings than the recipe's, the best first.

    Args:
        searched: the rows of the search.
        runs: where the recipe's own run is.
    """
    recipe = yaml.safe_load((RECIPES / "photographs.yaml").read_text(encoding="utf-8"))
    usual = {name: recipe[name] for name in ("learning_rate", "backbone_learning_rate")}
    usual["head_weight_decay"] = head_decay_for(PHOTOGRAPHS)
    found = [("the recipe's", usual, runs[SEARCHED][SEARCH_SEED]["validation mAP"])]
    found += [("", usual | one["setting"], one["validation mAP"]) for one in searched]
    table = header("learning rate", "that of the backbone", "weight decay of the head", "mAP on validation", "")
    for whose, setting, reached in sorted(found, key=lambda one: -one[2]):
        table.append(row(*(f"{float(value):g}" for value in setting.values()), f"{100 * reached:.2f}", whose))
    return table


def seeds_rows(runs: Runs) -> list[str]:
    """Lines of a table for the bundled model's head and each other one over the seeds of both."""
    lines = []
    for head in (head for head in runs if head != "am"):
        seeds = shared_seeds(runs, head)
        ours, other = (over_seeds([100 * runs[one][seed]["mAP"] for seed in seeds]) for one in ("am", head))
        difference = bundled_above(runs, head)
        lines.append(
            row(
                f"its head beside {BESIDE[head]}, {counted(len(seeds), 'seed')}",
                f"mAP {ours} and {other}: {difference}",
            )
        )
    return lines


def fine_tuned_runs(results: Path = RESULTS) -> Runs:
    """The runs that a folder of results holds."""
    return with_seed_0(Rows(results / "photographs" / FILE), Rows(results / "photographs_model.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path("../shared")
    parser.add_argument("--dataset", type=Path, default=shared / "data/mirflickr25k-128", help="default: %(default)s")
    parser.add_argument("--backbone", type=Path, default=shared / "weights/tf_efficientnet_lite0.in1k",
                        help="folder of a timm model; default: %(default)s")  # fmt: skip
    parser.add_argument("--runs", type=Path, default=Path("outputs/photographs-fine-tuned"),
                        help="folder of the runs; default: %(default)s")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="only these; default: %(default)s")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=tuple(HEADS), help="only these; default: all")
    parser.add_argument("--search", action="store_true", help="train the linear head with other settings instead")
    parser.add_argument("--most", type=int, default=len(SEARCH), help="of a search: end after so many runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photographs = str(options.dataset), str(options.backbone)
    if options.search:
        searched = Rows(RESULTS / "photographs" / SEARCH_FILE, f"{COMMAND} --search")
        missing = [point for point in SEARCH if point not in [one["setting"] for one in searched]]
        for point in missing[: options.most]:
            searched.add(search_head(point, *photographs, options.runs / f"{SEARCHED}-search-{SEARCH.index(point)}"))
            print(searched[-1], flush=True)
        return
    rows = Rows(RESULTS / "photographs" / FILE, COMMAND)
    for seed, head in product(options.seeds, options.heads):
        if seed not in fine_tuned_runs().get(head, {}):
            folder = options.runs / f"{head}-{seed}"
            rows.add(run(head, seed, *photographs, folder))
            print(rows[-1], flush=True)
    print(*fine_tuned_table(fine_tuned_runs()), sep="\n")


if __name__ == "__main__":
    main()
