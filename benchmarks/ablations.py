"""The paper's ablations on drawn scenes, every arm with a learning rate of its own.

`python -m benchmarks.ablations` takes more than two core hours, about 70 minutes on two cores. Of each arm the learning
rate is tuned on seeds of its own, and the arm then trained with five others, which also draw other images. A finished
run is a line of `ARM.jsonl` in the output folder and is not repeated; the tables and plots of `docs/ablations.md` are
made from these lines, by `--tables` alone. With `--quick` fewer and shorter runs try the same code.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from benchmarks.ablations_report import write_report
from benchmarks.ablations_runs import Results, arms, run_arm, scale_of
from benchmarks.measure import RESULTS

FOLDER = RESULTS / "ablations"
PAGE = RESULTS.parent.parent / "docs/ablations.md"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs of the same arms")
    parser.add_argument("--tables", action="store_true", help="only make tables and plots of what is there")
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, help="folder of the results; tables and plots then go there too")
    options = parser.parse_args()
    folder = options.output or (Path("outputs/ablations-quick") if options.quick else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [arm for arm in arms() if options.arms is None or arm.name in options.arms]
    if not options.tables:
        started = time.perf_counter()
        jobs = chosen, [scale_of(arm, options.quick) for arm in chosen], repeat(folder)
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for line in map(run_arm, *jobs) if options.workers == 1 else pool.map(run_arm, *jobs):
                print(f"{time.perf_counter() - started:6.0f} s  {line}", flush=True)
    write_page(folder, options.quick)


def write_page(folder: Path = FOLDER, quick: bool = False):
    """Fills the tables of the page from the results of a folder, and draws its plots; beside them if it is another."""
    results = {arm.name: Results(arm, scale_of(arm, quick), folder) for arm in arms()}
    write_report(results, PAGE if folder == FOLDER else folder / PAGE.name)


if __name__ == "__main__":
    main()
