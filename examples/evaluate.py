"""Evaluate a saved model: `accelerate launch examples/evaluate.py --model FOLDER --dataset coco --data_dir DIR`.

`--report FOLDER` writes a page of HTML with every label's figures and curves, the worst images, thresholds, calibration
and associations, with its figures as PNG and its numbers as CSV.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.load import dataset_name
from assocformer_hf.data.readers.registry import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.report import evaluation_report, metrics_table
from assocformer_hf.evaluation.saved_model import (
    EvaluationArguments,
    SavedModel,
    evaluate_saved_model,
    training_counts,
)
from assocformer_hf.interpretation.association_map import conditional_cooccurrence
from assocformer_hf.output_folder import write_file
from assocformer_hf.pages.report import ReportInput, write_report


@dataclass
class OutputArguments:
    """Where the results go, besides the screen."""

    output: Path | None = field(default=None, metadata={"help": "JSON file for the metrics."})
    report: Path | None = field(default=None, metadata={"help": "Folder for report.html and its CSV files."})
    train_split: str | None = field(
        default=None, metadata={"help": "Whose labels the report sets beside A. Default: the benchmark's, or train."}
    )


def report_input(saved: SavedModel, args: EvaluationArguments, source: SourceOptions, train_split: str | None):
    """What the report shows; without a training split it does without the co-occurrence of labels."""
    together = None
    try:
        together = conditional_cooccurrence(training_counts(args, source, saved.label_names, train_split))
    except DataError as error:
        if train_split:
            raise
        print(f"the report has no co-occurrence of labels: {error}")
    config = saved.model.config
    title = f"{Path(args.model).resolve().name} on {dataset_name(args.dataset)}"
    thresholds = config.thresholds
    return ReportInput(title, saved.evaluation, saved.label_names, thresholds, saved.dataset, together)


def main():
    args, source, outputs = parse_arguments([EvaluationArguments, SourceOptions, OutputArguments])
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    saved = evaluate_saved_model(args, source, accelerator)
    if not accelerator.is_main_process:
        return
    if saved.dataset.info.description:
        print(saved.dataset.info.description)
    for index in saved.evaluation.unreadable:
        print(f"{saved.images.name(index)}: cannot be read as an image; left out")
    metrics = evaluation_report(saved.evaluation, saved.label_names)
    print(metrics_table(metrics))
    if outputs.output:
        content = json.dumps(metrics, indent=2, ensure_ascii=False)
        write_file(outputs.output, lambda aside: aside.write_text(content, encoding="utf-8"))
    if outputs.report:
        page = write_report(outputs.report, report_input(saved, args, source, outputs.train_split))
        print(f"report: {page}")


if __name__ == "__main__":
    with one_line_errors():
        main()
