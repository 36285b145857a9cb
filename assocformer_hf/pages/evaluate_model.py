"""A saved model measured, as a table, a file of metrics and a page of HTML."""

import json
from dataclasses import replace
from pathlib import Path

from assocformer_hf.data.load import dataset_name
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.comparison import compare
from assocformer_hf.evaluation.evaluator import start_accelerator
from assocformer_hf.evaluation.options import EvaluationArguments
from assocformer_hf.evaluation.report import evaluation_report, metrics_table
from assocformer_hf.evaluation.saved_model import (
    SavedModel,
    evaluate_saved_model,
    evaluation_split,
    training_counts,
    with_own_dataset,
)
from assocformer_hf.interpretation.association_map import conditional_cooccurrence
from assocformer_hf.output_folder import refuse_file, write_file
from assocformer_hf.pages.options import ReportOptions
from assocformer_hf.pages.report import ReportInput, refuse_report, write_report
from assocformer_hf.saved_files import require_model
from assocformer_hf.wording import shown


def report_input(
    saved: SavedModel,
    args: EvaluationArguments,
    source: SourceOptions,
    needs_counts: bool = False,
    other: SavedModel | None = None,
    other_name: str = "",
    command: str | None = None,
) -> ReportInput:
    """What the report of a saved model shows.

    Args:
        saved: of `evaluate_saved_model`.
        args: which model and images.
        source: how the dataset was read.
        needs_counts: whether it is an error if there is no training split, whose labels are set beside A.
        other: another model, evaluated on the same images.
        other_name: its folder or Hub id.
        command: the one that this report comes from, as it was typed; None where it was a call.

    Raises:
        DataError: if there is no such training split, or the other model was evaluated on other images.
    """
    together = None
    try:
        together = conditional_cooccurrence(*training_counts(args, source, saved.label_names))
    except DataError as error:
        if needs_counts:
            raise
        print(f"the report has no co-occurrence of labels: {error}")
    data, size = dataset_name(args.dataset), saved.processor.size
    name, thresholds = shown(Path(args.model).resolve().name), saved.model.config.thresholds
    facts = {
        "model": name,
        "dataset": f"{data}, {evaluation_split(args, source)}",
        "image size": f"{size['height']} × {size['width']} pixels",
    }
    if command is not None:
        facts["command"] = command
    comparison = None
    if other is not None:
        short = shown(Path(other_name).resolve().name)
        other_name = short if short != name else shown(other_name)
        facts["compared with"] = other_name
        if seen := other.evaluation.trained_on:
            facts["compared with"] += f", which was trained on {seen} of these images: the numbers flatter it"
        limits = thresholds, other.model.config.thresholds
        comparison = compare(saved.evaluation, other.evaluation, saved.label_names, *limits)
    return ReportInput(
        f"{name} on {data}", saved.evaluation, saved.label_names, thresholds, saved.dataset, together, facts,
        comparison, name, other_name,
    )  # fmt: skip


def evaluate_model(
    args: EvaluationArguments, source: SourceOptions, outputs: ReportOptions, command: str | None = None
) -> None:
    """Measures a saved model and says what came out. Called by every process.

    Args:
        args: which model and images.
        source: how the dataset is read.
        outputs: where the results go.
        command: the one that asked for it, as it was typed, which the report shows; None where it was a call.

    Raises:
        DataError: if the data cannot be read, or have other labels than the model.
        OutputError: if files of others would be replaced.
    """
    if outputs.compare and not outputs.report:
        raise DataError("two models are compared in a report: give a folder for it with --report")
    if outputs.compare:
        require_model(outputs.compare)
    if outputs.output:
        refuse_file(outputs.output)
    if outputs.report:
        refuse_report(outputs.report)
    needs_counts = source.train_split is not None
    args, source = with_own_dataset(args, source)
    accelerator = start_accelerator(args.mixed_precision)
    saved = evaluate_saved_model(args, source, accelerator)
    other = None
    if outputs.compare:
        other = evaluate_saved_model(replace(args, model=outputs.compare), source, accelerator, saved.dataset)
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
        report = report_input(saved, args, source, needs_counts, other, outputs.compare or "", command)
        page = write_report(outputs.report, report)
        print(f"report: {page}")
