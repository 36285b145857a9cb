"""Heads on photographs: MIRFLICKR-25000 as feature maps of a frozen EfficientNet-Lite0, each head with its own sweep.

`python -m benchmarks.photographs --dataset FOLDER --backbone FOLDER --cache FOLDER` computes the maps once and then
runs, on a GPU or else in one thread, whatever is missing. Of each arm the learning rate, the weight decay and what else
it lets vary are searched on validation, each round trying all neighbours of the best setting; the chosen setting is
trained with other seeds, and only these runs see the test split. A finished run is a line of `ARM-SIZE.jsonl` in the
output folder and is not repeated; the tables and plots of `docs/photographs.md` are made from these lines, by
`--tables` alone. With `--quick` fewer and shorter runs on few photographs try the same code.
"""

import argparse
import json
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from benchmarks.measure import RESULTS
from benchmarks.photographs_costs import measure_costs
from benchmarks.photographs_features import features_name, load_features, load_photographs
from benchmarks.photographs_report import README, write_models, write_readme, write_report
from benchmarks.photographs_runs import ARMS, QUICK, SCALES, Arm, Results, Scale, run_arm
from benchmarks.photographs_statistics import Runs

FOLDER = RESULTS / "photographs"
PAGE = RESULTS.parent.parent / "docs/photographs.md"
DATA = Path("../shared")
QUICK_PHOTOGRAPHS = 400


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=DATA / "data/mirflickr25k-128", help="default: %(default)s")
    parser.add_argument("--backbone", type=Path, default=DATA / "weights/tf_efficientnet_lite0.in1k",
                        help="folder of a timm model; default: %(default)s")  # fmt: skip
    parser.add_argument("--cache", type=Path, default=Path("outputs/photographs-cache"),
                        help="folder for the feature maps, 2.3 GB; default: %(default)s")  # fmt: skip
    parser.add_argument("--image_size", type=int, default=192, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs of the same arms")
    parser.add_argument("--tables", action="store_true", help="only make tables and plots of what is there")
    parser.add_argument("--costs", action="store_true", help="measure time and memory of the heads, and nothing else")
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], metavar="ARM", help="only these")
    parser.add_argument("--sizes", nargs="+", type=int, help="only these numbers of training photographs")
    parser.add_argument("--output", type=Path, help="folder of the results; tables and plots then go there too")
    options = parser.parse_args()
    folder = options.output or (Path("outputs/photographs-quick") if options.quick else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    scales = (QUICK,) if options.quick else SCALES
    arms = [arm for arm in ARMS if arm.quick or not options.quick]
    chosen = [arm for arm in arms if options.arms is None or arm.name in options.arms]
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True  # on a CPU this changes nothing
    if options.costs or (options.quick and not options.tables):
        measure_costs([arm for arm in chosen if arm.cost_of is None], folder, 3 if options.quick else 7)
    if not (options.tables or options.costs):
        limit = QUICK_PHOTOGRAPHS if options.quick else None
        photographs = load_photographs(options.dataset, limit)
        name = features_name(photographs, options.backbone, options.image_size)
        try:
            require_features(name, folder)
        except ValueError as error:
            parser.error(str(error))
        splits = load_features(photographs, options.backbone, options.cache / name, options.image_size)
        started = time.perf_counter()
        sizes = options.sizes or [scale.size for scale in scales]
        for scale, arm in product((scale for scale in scales if scale.size in sizes), chosen):
            print(f"{time.perf_counter() - started:6.0f} s  {run_arm(arm, scale, splits, folder)}", flush=True)
    write_page(folder, arms, scales)


def write_page(folder: Path = FOLDER, arms: Sequence[Arm] = ARMS, scales: Sequence[Scale] = SCALES):
    """Tables and plots of the results of a folder, in the documentation or, if it is another, beside them."""
    results = {(arm.name, scale.size): Results(arm, scale, folder) for arm in arms for scale in scales}
    write_pages(results, folder, PAGE if folder == FOLDER else folder / PAGE.name)


def require_features(name: str, folder: Path):
    """Writes down which maps the results of a folder are of.

    Raises:
        ValueError: if it holds results of other maps, or does not say of which.
    """
    path = folder / "features.json"
    found = json.loads(path.read_text())["features"] if path.exists() else "unknown maps"
    if found != name and (path.exists() or any(folder.glob("*.jsonl"))):
        raise ValueError(f"{folder} holds results of {found}, and these are {name}; name another folder as --output")
    path.write_text(json.dumps({"features": name}) + "\n", encoding="utf-8")


def write_pages(results: Runs, folder: Path, page: Path, readme: Path = README):
    """Tables and plots of the page, and of the README, where the results are those that the documentation shows.

    Args:
        results: of every arm at every size, by both.
        folder: where they and the costs lie.
        page: what becomes of them.
        readme: the README.
    """
    costs = json.loads(path.read_text())["rows"] if (path := folder / "costs.json").exists() else []
    write_report(results, {row["arm"]: row for row in costs}, page)
    if folder == FOLDER:
        write_models(page)
        write_readme(results, readme)


if __name__ == "__main__":
    main()
