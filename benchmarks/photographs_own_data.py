"""The recipe for one's own photographs on a small set, with its head and with a linear one in its place.

`python -m benchmarks.photographs_own_data --data_dir COCO --backbone LITE0` trains COCO's files by `train`, as a user
would. A finished run is a row of `own_data.json` and is not repeated; `docs/photographs.md` has the table.
"""

import argparse
import tempfile
import time
from pathlib import Path

from assocformer_hf import train
from benchmarks.measure import RESULTS
from benchmarks.photographs_rows import Rows
from benchmarks.tables import NOT_RUN, header, mean_and_error, row

COMMAND = "python -m benchmarks.photographs_own_data --data_dir ../shared/data/coco-mini"
FILE = "own_data.json"
SEEDS = 3
IMAGE_SIZE, EPOCHS = 128, 20
HEADS = {
    "AM with attention, as in the recipe": {},
    "linear": {"fusion": "linear", "pooling": "mean"},
}


def run(head: str, seed: int, data_dir: Path, backbone: Path) -> dict:
    """Trains once; mAP in percent of the best epoch, which is chosen on the same images for both heads."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            "coco", config="photographs", data_dir=str(data_dir), train_split="train2017", eval_split="val2017",
            backbone=str(backbone), image_size=IMAGE_SIZE, epochs=EPOCHS, seed=seed, output_dir=folder, num_workers=0,
            report_to="none", **HEADS[head],
        )  # fmt: skip
        metrics = result.metrics
    seconds = round(time.perf_counter() - started)
    return {"head": head, "seed": seed, "mAP": 100 * metrics["mAP"], "images": metrics["images"], "seconds": seconds}


def own_data_table(rows: list[dict]) -> list[str]:
    """mAP of each head, and what the recipe's is above the linear one, seed by seed."""
    by_seed = {head: {one["seed"]: one["mAP"] for one in rows if one["head"] == head} for head in HEADS}
    ours, linear = by_seed.values()
    gains = [ours[seed] - linear[seed] for seed in sorted(ours.keys() & linear.keys())]
    table = header("head", "seeds", "mAP", "above the linear head")
    for head, found in by_seed.items():
        gain = NOT_RUN if len(gains) < 2 else mean_and_error(gains, "+")
        value = NOT_RUN if len(found) < 2 else mean_and_error(list(found.values()))
        table.append(row(head, str(len(found)), value, gain if found is ours else "–"))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path("../shared")
    parser.add_argument("--data_dir", type=Path, default=shared / "data/coco-mini", help="default: %(default)s")
    parser.add_argument("--backbone", type=Path, default=shared / "weights/tf_efficientnet_lite0.in1k",
                        help="folder of a timm model; default: %(default)s")  # fmt: skip
    options = parser.parse_args()
    rows = Rows(RESULTS / "photographs" / FILE, COMMAND)
    made = {(one["head"], one["seed"]) for one in rows}
    for seed in range(SEEDS):
        for head in HEADS:
            if (head, seed) not in made:
                rows.add(run(head, seed, options.data_dir, options.backbone))
    print(*own_data_table(rows), sep="\n")


if __name__ == "__main__":
    main()
