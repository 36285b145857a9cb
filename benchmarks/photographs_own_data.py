"""The recipe for one's own photographs on small sets, beside linear heads.

`python -m benchmarks.photographs_own_data` trains by `train`, as a user would, with the head of the recipe and with a
linear one in its place, that one with several weight decays; beside them stands logistic regression on the features of
the frozen backbone. What chose the epoch or the penalty does not measure the mAP too, but for the few photographs of
COCO. A finished run is a row of `own_data.json` and is not repeated; `docs/photographs.md` has the table.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader

from assocformer_hf import (
    AssocFormerForMultiLabel,
    AssocFormerImageProcessor,
    load_multilabel_dataset,
    multilabel_metrics,
    train,
)
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import backbone_image_processor, evaluation_transform
from assocformer_hf.data.schema import label_names
from assocformer_hf.training.arguments import read_recipe
from benchmarks.measure import RESULTS
from benchmarks.photographs_rows import Rows
from benchmarks.tables import header, mean_and_error, over_seeds, row

COMMAND = "python -m benchmarks.photographs_own_data"
FILE = "own_data.json"
SEEDS = 3
IMAGE_SIZE, EPOCHS, HELD_OUT = 128, 10, 600
SETS = ("80 of COCO", "300 of MIRFLICKR", "1,000 of MIRFLICKR")
LINEAR = {"fusion": "linear", "pooling": "mean"}
RECIPE, FROZEN = "as in the recipe: AM with attention", "logistic regression on frozen features"
DECAYS = (10, 30, 100, 300)
HEADS = {RECIPE: {}} | {f"linear, head decay {decay}": LINEAR | {"head_weight_decay": decay} for decay in DECAYS}
INVERSE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
Found = dict[tuple[str, str], dict[int, float]]  # mAP by set and head, of each the seeds


def photographs(name: str, seed: int, coco: Path, mirflickr: Path) -> dict[str, datasets.Dataset]:
    """The photographs of a set to train on, to choose by (`validation`), and to measure on (`test`).

    Those of MIRFLICKR to train on are drawn anew for every seed. COCO's 79 both choose and measure.
    """
    if name == SETS[0]:
        splits = load_multilabel_dataset("coco", coco, train_split="train2017", eval_split="val2017")
        return dict(splits) | {"test": splits["validation"]}
    splits = load_multilabel_dataset(mirflickr)
    count = int(name.split()[0].replace(",", ""))
    drawn = np.random.default_rng(seed).permutation(len(splits["train"]))[:count]
    return {
        "train": splits["train"].select(drawn.tolist()),
        "validation": splits["validation"].select(range(HELD_OUT)),
        "test": splits["test"].select(range(HELD_OUT)),
    }


def fine_tuned(head: str, seed: int, splits: dict[str, datasets.Dataset], backbone: Path) -> float:
    """mAP in percent of the best epoch, which is chosen on the same photographs for all heads; in float32."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            {split: splits[split] for split in ("train", "validation")}, config="photographs", backbone=str(backbone),
            image_size=IMAGE_SIZE, epochs=EPOCHS, seed=seed, output_dir=folder, num_workers=0, report_to="none",
            mixed_precision="no", **HEADS[head],
        )  # fmt: skip
        model = result.model.eval()
        scores, labels = computed(lambda pixels: model(pixels).logits.sigmoid(), splits["test"], result.processor)
    return 100 * multilabel_metrics(scores, labels)["mAP"]


def logistic(splits: dict[str, datasets.Dataset], backbone: Path) -> float:
    """mAP in percent of the best penalty, chosen likewise; a label that all or none have in training is left at 0."""
    names, processor = label_names(splits["train"]), backbone_image_processor(str(backbone), IMAGE_SIZE)
    model = AssocFormerForMultiLabel.from_backbone(str(backbone), image_size=IMAGE_SIZE, num_labels=len(names)).eval()
    (features, labels), *others = (
        computed(lambda pixels: model.head_inputs(pixels)[0], splits[split], processor)
        for split in ("train", "validation", "test")
    )
    scale = StandardScaler().fit(features)
    features, others = scale.transform(features), [(scale.transform(new), targets) for new, targets in others]
    best, measured = -1.0, 0.0
    for penalty in INVERSE_PENALTIES:
        scores = [np.zeros_like(targets) for _, targets in others]
        for label, targets in enumerate(labels.T):
            if targets.min() != targets.max():
                regression = LogisticRegression(C=penalty, max_iter=1000).fit(features, targets)
                for own, (new, _) in zip(scores, others, strict=True):
                    own[:, label] = regression.predict_proba(new)[:, 1]
        chosen_by, mean_ap = (
            multilabel_metrics(own, targets)["mAP"] for own, (_, targets) in zip(scores, others, strict=True)
        )
        if chosen_by > best:
            best, measured = chosen_by, mean_ap
    return 100 * measured


def computed(
    function: Callable[[Tensor], Tensor], rows: datasets.Dataset, processor: AssocFormerImageProcessor
) -> tuple[np.ndarray, np.ndarray]:
    """What a function makes of the pixels of photographs, and their labels `(photographs, labels)`."""
    images = MultiLabelImages(rows, evaluation_transform(processor))
    batches = list(DataLoader(images, 64, collate_fn=MultiLabelCollator(len(label_names(rows)))))
    with torch.inference_mode():
        found = torch.cat([function(batch["pixel_values"]) for batch in batches])
    return found.numpy(), torch.cat([batch["labels"] for batch in batches]).numpy()


def own_data_table(rows: Sequence[dict]) -> list[str]:
    """mAP of each head on each set, and what the recipe's is above it, seed by seed."""
    table = header("photographs", "head", "seeds", "mAP", "the recipe's above it")
    found = by_seed(rows)
    for name in SETS:
        for head in (*HEADS, FROZEN):
            theirs, gains = found[name, head], gains_over(found, name, head)
            gain = "–" if head == RECIPE else over_seeds(gains, "+")
            table.append(row(name, head, str(len(theirs)), over_seeds(list(theirs.values())), gain))
    return table


def own_data_rows(rows: Sequence[dict]) -> list[str]:
    """A line of a table for each set: the recipe's mAP, and what it is above the best of the other heads."""
    found, lines = by_seed(rows), []
    for name in SETS:
        ours = list(found[name, RECIPE].values())
        gains = [gains_over(found, name, head) for head in (*HEADS, FROZEN) if head != RECIPE]
        gains = [each for each in gains if len(each) == len(ours)]  # of the heads that all seeds were run with
        if len(ours) > 1 and gains:
            least = min(gains, key=np.mean)
            what = f"the recipe for own photographs on {name}, beside the best of {len(gains)} linear heads"
            lines.append(row(what, f"mAP {mean_and_error(ours)}, {mean_and_error(least, '+')} above it"))
    return lines


def by_seed(rows: Sequence[dict]) -> Found:
    """The mAPs by set and head, of each the seeds."""
    found = defaultdict(dict)
    for one in rows:
        found[one["set"], one["head"]][one["seed"]] = one["mAP"]
    return found


def gains_over(found: Found, name: str, head: str) -> list[float]:
    """What the recipe is above a head, seed by seed."""
    ours, theirs = found[name, RECIPE], found[name, head]
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path("../shared")
    parser.add_argument("--coco", type=Path, default=shared / "data/coco-mini", help="default: %(default)s")
    parser.add_argument("--mirflickr", type=Path, default=shared / "data/mirflickr25k-128",
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--backbone", type=Path, default=shared / "weights/tf_efficientnet_lite0.in1k",
                        help="folder of a timm model; default: %(default)s")  # fmt: skip
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, metavar="SET", help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(RESULTS / "photographs" / FILE, COMMAND)
    settings = read_recipe("photographs") | {"image_size": IMAGE_SIZE, "epochs": EPOCHS}
    if other := [one for one in rows if one.get("settings") != settings]:
        parser.error(f"{rows.path} holds {len(other)} runs of another recipe; move it away")
    for name in options.sets:
        for seed in range(SEEDS):
            splits = photographs(name, seed, options.coco, options.mirflickr)
            for head in (*HEADS, FROZEN):
                if (name, head, seed) in {(one["set"], one["head"], one["seed"]) for one in rows}:
                    continue
                started = time.perf_counter()
                if head == FROZEN:
                    value = logistic(splits, options.backbone)
                else:
                    value = fine_tuned(head, seed, splits, options.backbone)
                seconds = round(time.perf_counter() - started)
                found = {"set": name, "head": head, "seed": seed, "mAP": value, "seconds": seconds}
                rows.add(found | {"settings": settings})
                print(rows[-1], flush=True)
    print(*own_data_table(rows), sep="\n")


if __name__ == "__main__":
    main()
