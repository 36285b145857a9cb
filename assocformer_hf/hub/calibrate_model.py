"""A saved model with thresholds chosen and scores scaled to probabilities, on images that it was not trained on."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import CONFIG_NAME

from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.load import DEFAULT_SPLITS, dataset_name
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.calibration import (
    Reliability,
    apply_scaling,
    fit_scaling,
    held_out_scale,
    is_no_better_than_chance,
    reliability,
)
from assocformer_hf.evaluation.evaluator import Evaluation, start_accelerator
from assocformer_hf.evaluation.metrics import DECISION_METRICS, multilabel_metrics
from assocformer_hf.evaluation.options import CalibrationOptions, EvaluationArguments
from assocformer_hf.evaluation.saved_model import (
    SavedModel,
    evaluate_saved_model,
    evaluation_split,
    with_own_dataset,
)
from assocformer_hf.evaluation.thresholds import choose_thresholds, cross_validate_thresholds, missed_goal
from assocformer_hf.hub.model_folder import (
    CALIBRATION_FILE,
    CALIBRATION_FILES,
    CARD_FILE,
    MODEL_FILES,
    PREDICTIONS_FILE,
    RELIABILITY_FILE,
    SAMPLES,
    copy_sample_images,
    sample_files,
    save_model_folder,
)
from assocformer_hf.interpretation.reliability_diagram import plot_reliability
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.saved_files import METRICS_FILE, file_of_model, read_metrics_file


def calibrate(saved: SavedModel, args: CalibrationOptions) -> tuple[Evaluation, dict, dict[str, Reliability]]:
    """Changes the model.

    Returns:
        Its evaluation anew; what changed, with what it is worth on other images; its scores beside what came true,
        before and after.
    """
    evaluation, config = saved.evaluation, saved.model.config
    scores, targets = evaluation.scores, evaluation.targets
    choice: dict[str, Any] = {
        "goal": args.goal,
        "value": args.value,
        "per_label": args.per_label,
        "min_positives": args.min_positives,
    }
    before = np.array(config.thresholds)
    # Scaling keeps the order of the scores, so it changes nothing about what thresholds are worth.
    worth = cross_validate_thresholds(scores, targets, before, args.folds, **choice)
    states = {"before": reliability(scores, targets)}
    found: dict[str, Any] = {"images": len(scores), "scaling": None, "ECE": {"before": states["before"].error}}
    if args.scaling:
        scaling = fit_scaling(scores, targets)
        scaled = scaling(scores)
        found["unscaled"] = is_no_better_than_chance(scaled, targets)
        if not found["unscaled"]:
            held_out = reliability(held_out_scale(scores, targets, args.folds), targets)
            states["scaled, held out"] = held_out
            found["scaling"], found["ECE"]["held_out"] = asdict(scaling), held_out.error
            apply_scaling(saved.model, scaling)
            scores = scaled
    thresholds = choose_thresholds(scores, targets, **choice)
    config.label_thresholds = np.asarray(thresholds).tolist() if args.per_label else None
    config.threshold = config.threshold if args.per_label else thresholds
    found["thresholds"] = choice | {
        "before": worth["baseline"], "held_out": worth["chosen"], "fold_gains": worth["fold_gains"],
        "missed": missed_goal(scores, targets, thresholds, args.goal, args.value, saved.label_names),
    }  # fmt: skip
    metrics = multilabel_metrics(scores, targets, thresholds)
    return replace(evaluation, scores=scores, metrics=metrics), found, states


def summary(found: dict, model) -> str:
    """What changed, as text."""
    lines = [f"{'':<22}" + "".join(f"{key:>7}" for key in DECISION_METRICS)]
    for name, key in (("before", "before"), ("chosen, held out", "held_out")):
        row = found["thresholds"][key]
        lines.append(f"{name:<22}" + "".join(f"{100 * row[metric]:>7.1f}" for metric in DECISION_METRICS))
    for metric, gains in found["thresholds"]["fold_gains"].items():
        lines.append(f"{metric} gained in each fold: " + ", ".join(f"{100 * gain:+.1f}" for gain in gains))
    chosen = found["thresholds"]
    metric = "CF1" if chosen["per_label"] else "OF1"
    if chosen["goal"] == "f1" and chosen["held_out"][metric] < chosen["before"][metric]:
        lines.append(
            f"note: on images that did not choose them, the thresholds have a lower {metric} than those before; the "
            "model as it was may serve better, or more images may help"
        )
    if chosen["missed"]:
        lines.append(f"note: {chosen['missed']}")
    own = model.config.label_thresholds
    values = f"{min(own):.3f} to {max(own):.3f}" if own else f"{model.config.threshold:.3f}"
    lines.append(f"{'thresholds of the labels' if own else 'threshold'}: {values}")
    if found.get("unscaled"):
        lines.append(
            "note: the scores say nothing about the labels of these images, so they were left as they are; are these "
            "images of the kind that the model was trained on?"
        )
    if found["scaling"]:
        errors = found["ECE"]
        lines.append("scaled: logit divided by {temperature:.3f}, {offset:+.3f} added".format(**found["scaling"]))
        lines.append(f"expected calibration error: {errors['before']:.4f}, scaled (held out) {errors['held_out']:.4f}")
        if errors["held_out"] > errors["before"]:
            lines.append(
                "note: on images that did not choose it, the scaling makes the scores worse; leave it out with "
                "--no_scaling"
            )
    return "\n".join(lines)


def _same_images(saved: SavedModel, args: EvaluationArguments) -> bool:
    """Whether the images are those that the training chose the weights on, as far as the model says which these were.

    Folders of one name may hold others; the name of a benchmark, or of a dataset on the Hub, says what it holds.
    """
    if saved.held_out is not None:
        return saved.held_out
    return args.dataset in DEFAULT_SPLITS or not Path(args.dataset).exists()


def calibrate_model(args: EvaluationArguments, source: SourceOptions, choice: CalibrationOptions) -> None:
    """Measures a saved model, chooses thresholds and scales its scores, and saves it anew. Called by every process.

    Raises:
        DataError: if the data cannot be read or have other labels than the model, or the output holds a model already.
        OutputError: if files of others would be replaced.
    """
    args, source = with_own_dataset(args, source)
    if (choice.output / CONFIG_NAME).exists():
        raise DataError(f"{choice.output}: holds a model already; give a new folder as --output")
    output = OutputFolder(choice.output)
    output.make()
    output.refuse_foreign([*MODEL_FILES, *CALIBRATION_FILES], "model")
    output.refuse_foreign([PREDICTIONS_FILE, *sample_files(args.model)], SAMPLES)
    accelerator = start_accelerator(args.mixed_precision)
    saved = evaluate_saved_model(args, source, accelerator)
    if not accelerator.is_main_process:
        return
    if saved.dataset.info.description:
        print(saved.dataset.info.description)
    evaluation, found, states = calibrate(saved, choice)
    used = ImagesUsed.of_model(args.model)
    metrics = file_of_model(args.model, METRICS_FILE)
    with output.replacing("model") as folder:
        run = read_metrics_file(metrics).get("run", {}) if metrics is not None else {}
        measured_on = dataset_name(args.dataset), evaluation_split(args, source)
        named = (run.get("dataset"), run.get("eval_split")) == measured_on
        if named and _same_images(saved, args):
            save_model_folder(folder, saved.model, saved.processor, evaluation, run, found, used)
        else:  # what a card would say of the training and its evaluation is not known
            saved.model.save_pretrained(folder)
            saved.processor.save_pretrained(folder)
            if used is not None:
                used.save(folder)
        (folder / CALIBRATION_FILE).write_text(json.dumps(found, indent=2), encoding="utf-8")
        plot_reliability(states, folder / RELIABILITY_FILE)
    if (output.path / CARD_FILE).is_file():
        copy_sample_images(args.model, output.path)
    print(summary(found, saved.model))
    print(f"saved in {choice.output}")
    if not (choice.output / CARD_FILE).is_file():
        print(
            "without a card, as these are not known to be the images that chose its weights: to be used, not to be "
            "published"
        )
