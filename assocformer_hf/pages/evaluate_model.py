"""A saved model measured, as a table, a file of metrics and a page of HTML."""

import json
from pathlib import Path

from accelerate import Accelerator

from assocformer_hf.data.load import dataset_name
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.options import EvaluationArguments
from assocformer_hf.evaluation.report import evaluation_report, metrics_table
from assocformer_hf.evaluation.saved_model import (
    SavedModel,
    evaluate_saved_model,
    training_counts,
    with_own_dataset,
)
from assocformer_hf.interpretation.association_map import conditional_cooccurrence
from assocformer_hf.output_folder import write_file
from assocformer_hf.pages.options import ReportOptions
from assocformer_hf.pages.report import ReportInput, write_report


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


def evaluate_model(args: EvaluationArguments, source: SourceOptions, outputs: ReportOptions):
    """Measures a saved model and says what came out. Called by every process.

    Raises:
        DataError: if the data cannot be read, or have other labels than the model.
        OutputError: if files of others would be replaced.
    """
    args, source = with_own_dataset(args, source)
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
