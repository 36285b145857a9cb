"""An evaluation as a dictionary for `metrics.json`, and as a table for people."""

from assocformer_hf.evaluation.association_worth import worth_sentence
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import HEADLINE
from assocformer_hf.wording import counted


def evaluation_report(evaluation: Evaluation, label_names: list[str]) -> dict:
    """The metrics of an evaluation with the labels' names, ready for JSON.

    Returns:
        The metrics of `multilabel_metrics`, fractions in [0, 1], with AP and number of images by label under
        `per_label`, the number of images that were `trained_on`, and under `association` (None without an association
        module) the mean and standard deviation of A and its `worth`, see `Evaluation.association_worth`.
    """
    metrics = dict(evaluation.metrics)
    average_precisions = metrics.pop("per_label_AP")
    positives = (evaluation.targets == 1).sum(0).tolist()
    metrics["per_label"] = {
        name: {"AP": value, "positives": count}
        for name, value, count in zip(label_names, average_precisions, positives, strict=True)
    }
    metrics["trained_on"] = evaluation.trained_on
    metrics["association"] = None
    if evaluation.association_mean is not None:
        metrics["association"] = {
            "mean": evaluation.association_mean,
            "std": evaluation.association_std,
            "worth": evaluation.association_worth,
        }
    return metrics


def metrics_table(metrics: dict) -> str:
    """A report of `evaluation_report` as text, in percent."""
    width = max(len(name) for name in metrics["per_label"])
    lines = [f"{'label':<{width}}  {'AP':>6}  images"]
    for name, row in metrics["per_label"].items():
        value = "-" if row["AP"] is None else f"{100 * row['AP']:.1f}"
        lines.append(f"{name:<{width}}  {value:>6}  {row['positives']:>6}")
    lines += ["", "  ".join(f"{key:>6}" for key in HEADLINE)]
    lines.append("  ".join(f"{100 * metrics[key]:>{max(len(key), 6)}.1f}" for key in HEADLINE))
    lines.append(f"{counted(metrics['images'], 'image')}; chance_mAP is what random scores are expected to get")
    if metrics.get("association"):
        lines.append(worth_sentence(metrics["association"]["worth"]))
    if seen := metrics.get("trained_on"):
        lines.append(f"{seen} of these images were trained on: the numbers flatter the model")
    return "\n".join(lines)
