"""`assocformer evaluate`."""

import shlex
import sys
from pathlib import Path

from assocformer_hf.commands.options import group
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.evaluation.options import EvaluationArguments
from assocformer_hf.pages.options import ReportOptions


def evaluate(
    *,
    options: group(EvaluationArguments, "Model and dataset", 1),
    report: group(ReportOptions, "Results", 2) = None,
    source: group(SourceOptions, "How the data are read", 3) = None,
) -> None:
    """Measure a model on a split of a dataset, by default on the one that chose its weights."""
    from assocformer_hf.commands.running import quoted, say_next
    from assocformer_hf.pages.evaluate_model import evaluate_model
    from assocformer_hf.saved_files import require_model

    require_model(options.model)
    is_command = Path(sys.argv[0]).name in ("assocformer", "__main__.py")  # else Python called the verb
    command = shlex.join(["assocformer", *sys.argv[1:]]) if is_command else None
    evaluate_model(options, source or SourceOptions(), report or ReportOptions(), command)
    given = {name: getattr(options, name) for name in ("model", "dataset", "data_dir", "split")}
    words = " ".join(f"--{name} {quoted(value)}" for name, value in given.items() if value is not None)
    say_next(f"assocformer calibrate {words} --output outputs/calibrated")
