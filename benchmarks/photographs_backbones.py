"""Swin and CvT from random weights on photographs, with and without the association module.

`python -m benchmarks.photographs_backbones --dataset FOLDER` runs whatever is missing, in one thread. Of each arm the
learning rate is searched on validation in shorter runs, first among three, then on while the best is at an edge; the
chosen one is trained with other seeds, and only these runs see the test split. A finished run is a row of
`backbones.json` in the output folder and is not repeated. The table of `docs/photographs.md` is made from these rows.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.data.load import load_multilabel_dataset
from assocformer_hf.data.schema import label_names
from assocformer_hf.device import is_slow_on_cpu
from assocformer_hf.evaluation.metrics import multilabel_metrics
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from benchmarks.measure import RESULTS
from benchmarks.photographs_rows import Rows
from benchmarks.tables import NOT_RUN, fill_page, header, over_seeds, row

COMMAND = "python -m benchmarks.photographs_backbones --dataset ../shared/data/mirflickr25k-128"
FILE = "backbones.json"
SPLITS = ("train", "validation", "test")
IMAGE_SIZE, SHIFT = 64, 6  # pixels
BATCH, WEIGHT_DECAY = 64, 0.05
RATES, MOST_RATES = (5e-4, 1e-3, 2e-3), 5
TUNING_SEED, SEEDS = 100, 3
PAPER = {"association_norm": "l2", "association_weight": 0.1}


@dataclass(frozen=True)
class Arm:
    """A backbone with a head.

    Attributes:
        name: of its rows.
        title: what the table calls it.
        backbone: a preset.
        config: of the head.
        bfloat16: whether products are computed so where the CPU has it; convolutions of CvT are no faster by it.
    """

    name: str
    title: str
    backbone: str
    config: dict = field(default_factory=dict)
    bfloat16: bool = False


ARMS = (
    Arm("cvt-linear", "tiny CvT, linear", "tiny-cvt", {"fusion": "linear", "association_norm": "none"}),
    Arm("cvt-am", "tiny CvT, AM (l2, θ=0.1)", "tiny-cvt", PAPER),
    Arm("swin-linear", "tiny Swin, linear", "tiny-swin", {"fusion": "linear", "association_norm": "none"}, True),
    Arm("swin-am", "tiny Swin, AM (l2, θ=0.1)", "tiny-swin", PAPER, True),
)


class Scale(NamedTuple):
    """How long the runs are: passes over the photographs, in the search and after it."""

    tuning_epochs: int = 2
    epochs: int = 6


class Split(NamedTuple):
    """Photographs: uint8 pixels `(photographs, 3, height, width)`, and their multi-hot labels in float32."""

    pixels: Tensor
    labels: Tensor


def load_photographs(dataset: Path, limit: int | None = None) -> tuple[dict[str, Split], list[str]]:
    """All photographs at the models' size, and the labels' names; of each split the first, where there is a limit."""
    splits, processor = load_multilabel_dataset(dataset), create_image_processor(IMAGE_SIZE)
    names = label_names(splits["train"])
    found = {}
    for split in SPLITS:
        photographs = splits[split] if limit is None else splits[split].select(range(limit))
        images = MultiLabelImages(photographs, processor.to_pixels)
        batch = MultiLabelCollator(len(names))([images[i] for i in range(len(images))])
        found[split] = Split(batch["pixel_values"], batch["labels"])
    return found, names


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each photograph mirrored by chance, and the batch shifted by up to `SHIFT` pixels."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    top, left = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    padded = transforms.pad(pixels, [SHIFT], padding_mode="reflect")
    return padded[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def run(arm: Arm, rate: float, seed: int, epochs: int, splits: dict[str, Split], names: list[str]) -> dict:
    """Trains once; the last epoch counts. Only other seeds than the tuning one see the test split."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    backbone = BACKBONE_PRESETS[arm.backbone](IMAGE_SIZE)
    config = AssocFormerConfig(backbone_config=backbone, id2label=dict(enumerate(names)), **arm.config)
    model, train = AssocFormerForMultiLabel(config), splits["train"]
    optimizer = create_optimizer(model, rate, WEIGHT_DECAY)
    scheduler = create_scheduler(optimizer, epochs * -(-len(train.labels) // BATCH))
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(train.labels), generator=generator).split(BATCH):
            pixels = augmented(train.pixels[index], generator) / 255
            with torch.autocast("cpu", torch.bfloat16, enabled=arm.bfloat16 and not is_slow_on_cpu("bf16")):
                loss = model(pixels, labels=train.labels[index]).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    record = {"arm": arm.name, "rate": rate, "seed": seed, "epochs": epochs}
    record["validation"] = mean_ap(model, splits["validation"])
    if seed != TUNING_SEED:
        record["test"] = mean_ap(model, splits["test"])
        record["association_std"] = association_std(model, splits["validation"])
    return record | {"seconds": round(time.perf_counter() - started, 1)}


@torch.inference_mode()
def mean_ap(model: AssocFormerForMultiLabel, split: Split) -> float:
    """mAP in percent."""
    model.eval()
    scores = torch.cat([model(pixels / 255).logits.sigmoid() for pixels in split.pixels.split(250)])
    return 100 * multilabel_metrics(scores.numpy(), split.labels.numpy())["mAP"]


@torch.inference_mode()
def association_std(model: AssocFormerForMultiLabel, split: Split) -> float | None:
    """Standard deviation of A over entries and 500 photographs; None without an association module."""
    if model.config.fusion == "linear":
        return None
    return model(split.pixels[:500] / 255, output_association=True).association.std().item()


class Results:
    """The finished runs, and what follows from them."""

    def __init__(self, path: Path, scale: Scale):
        self.rows, self.scale = Rows(path, COMMAND), scale

    def sweep(self, arm: Arm) -> dict[float, float]:
        """mAP on validation by learning rate, in the order of the rates."""
        own = [row for row in self.rows if row["arm"] == arm.name and row["seed"] == TUNING_SEED]
        tried = {row["rate"]: row["validation"] for row in own if row["epochs"] == self.scale.tuning_epochs}
        return dict(sorted(tried.items()))

    def next_rate(self, arm: Arm) -> float | None:
        """The learning rate to try next; None once the search is done."""
        tried = self.sweep(arm)
        if missing := [rate for rate in RATES if rate not in tried]:
            return missing[0]
        lowest, *_, highest = tried
        best = max(tried, key=tried.get)
        if len(tried) >= MOST_RATES or best not in (lowest, highest):
            return None
        return 2 * highest if best == highest else lowest / 2

    def finished(self, arm: Arm) -> list[dict]:
        """The runs of the chosen learning rate, by seed; none while it is searched."""
        if self.next_rate(arm) is not None:
            return []
        tried = self.sweep(arm)
        chosen = max(tried, key=tried.get), self.scale.epochs
        runs = [row for row in self.rows if row["arm"] == arm.name and (row["rate"], row["epochs"]) == chosen]
        return sorted((row for row in runs if row["seed"] != TUNING_SEED), key=lambda row: row["seed"])

    def next_run(self, arms: Sequence[Arm] = ARMS) -> tuple[Arm, float, int, int] | None:
        """Arm, learning rate, seed and epochs of the next run: all searches, then seed by seed; None at the end."""
        for arm in arms:
            if (rate := self.next_rate(arm)) is not None:
                return arm, rate, TUNING_SEED, self.scale.tuning_epochs
        for seed in range(SEEDS):
            for arm in arms:
                if seed not in [row["seed"] for row in self.finished(arm)]:
                    tried = self.sweep(arm)
                    return arm, max(tried, key=tried.get), seed, self.scale.epochs
        return None


def backbones_table(results: Results) -> list[str]:
    """mAP of each arm, and what AM adds, seed by seed."""
    table = header("model", "learning rate", "its search, mAP on validation", "seeds", "test mAP",
                   "AM less linear", "sd of A")  # fmt: skip
    for linear, am in zip(ARMS[::2], ARMS[1::2], strict=True):
        for arm in (linear, am):
            runs, tried = results.finished(arm), results.sweep(arm)
            cells = [NOT_RUN] * 2
            if tried:
                cells = [f"{max(tried, key=tried.get):g}", ", ".join(f"{r:g}: {mAP:.1f}" for r, mAP in tried.items())]
            tests, gain, spread = [one["test"] for one in runs], "–", "–"
            if arm is am:
                pairs = zip(tests, [one["test"] for one in results.finished(linear)], strict=False)
                gain = over_seeds([own - other for own, other in pairs], "+")
                spread = f"{np.mean([one['association_std'] for one in runs]):.3f}" if runs else NOT_RUN
            table.append(row(arm.title, *cells, str(len(runs)), over_seeds(tests), gain, spread))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/mirflickr25k-128"),
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--output", type=Path, help="folder of the results; tables then go there too")
    parser.add_argument("--limit", type=int, help="only the first photographs of each split, to try the code")
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], metavar="ARM", help="only these")
    parser.add_argument("--most", type=int, help="end after so many runs; the next call goes on")
    options = parser.parse_args()
    published = RESULTS / "photographs"
    folder = options.output or (published if options.limit is None else Path("outputs/photographs-backbones"))
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    scale = Scale() if options.limit is None else Scale(1, 1)
    results, made = Results(folder / FILE, scale), 0
    splits, names = load_photographs(options.dataset, options.limit)
    arms = [arm for arm in ARMS if options.arms is None or arm.name in options.arms]
    while made != options.most and (wanted := results.next_run(arms)) is not None:
        results.rows.add(run(*wanted, splits, names))
        print(json.dumps(results.rows[-1]), flush=True)
        made += 1
    page = RESULTS.parent.parent / "docs/photographs.md" if folder == published else folder / "backbones.md"
    fill_page(page, {"backbones": backbones_table(results)})


if __name__ == "__main__":
    main()
