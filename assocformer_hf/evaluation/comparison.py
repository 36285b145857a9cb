"""Two models on the same images: what differs, and by how much more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.bootstrap import bootstrap_metrics
from assocformer_hf.evaluation.calibration import log_loss
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import DECISION_METRICS, reaches

COMPARED = ("mAP", *DECISION_METRICS)


@dataclass
class Comparison:
    """A model beside another one, the first less the second.

    Attributes:
        metrics: dictionaries of `metric`, `value`, `other`, and the `difference` with its interval, `low` to `high`.
        labels: likewise of each label's AP, with `label`; None where the label has no positives.
        images: those with other decisions, the largest change of log loss first: `index`, `log_loss`,
            `other_log_loss`, `better` and `worse`, the labels that the first model has right and the other wrong, and
            the reverse.
    """

    metrics: list[dict]
    labels: list[dict]
    images: list[dict]


def compare(
    one: Evaluation,
    other: Evaluation,
    label_names: Sequence[str],
    threshold: float | Sequence[float],
    other_threshold: float | Sequence[float],
) -> Comparison:
    """Compares two evaluations of the same images; intervals are of the paired bootstrap over the images.

    Args:
        one: of a model.
        other: of the model that it is compared with.
        label_names: in the order of the columns of both.
        threshold: of the first model.
        other_threshold: of the other.

    Raises:
        DataError: if the images or their labels are not the same.
    """
    rows, other_rows = np.argsort(one.indices), np.argsort(other.indices)
    targets = one.targets[rows]
    if not (
        np.array_equal(one.indices[rows], other.indices[other_rows])
        and np.array_equal(targets, other.targets[other_rows])
    ):
        raise DataError("only models that were evaluated on the same images and labels can be compared")
    scores, other_scores = one.scores[rows], other.scores[other_rows]
    thresholds = [np.broadcast_to(value, len(label_names)) for value in (threshold, other_threshold)]
    intervals = bootstrap_metrics(scores, targets, thresholds[0], compared=(other_scores, thresholds[1]))

    def difference(value: float | None, second: float | None, interval: np.ndarray) -> dict:
        if value is None or second is None:
            return dict.fromkeys(("value", "other", "difference", "low", "high"))
        low, high = interval.tolist()
        return {"value": value, "other": second, "difference": value - second, "low": low, "high": high}

    metrics = [{"metric": key} | difference(one.metrics[key], other.metrics[key], intervals[key]) for key in COMPARED]
    each = zip(
        label_names, one.metrics["per_label_AP"], other.metrics["per_label_AP"], intervals["per_label_AP"], strict=True
    )
    labels = [{"label": name} | difference(*values) for name, *values in each]
    right = [
        reaches(part, limit) == (targets == 1) for part, limit in zip((scores, other_scores), thresholds, strict=True)
    ]
    known, losses = targets != -1, [log_loss(part, targets) for part in (scores, other_scores)]
    better, worse = right[0] & ~right[1] & known, right[1] & ~right[0] & known
    changed = np.flatnonzero((better | worse).any(1))
    images = [
        {
            "index": int(one.indices[rows[i]]),
            "log_loss": float(losses[0][i]),
            "other_log_loss": float(losses[1][i]),
            "better": [label_names[c] for c in np.flatnonzero(better[i]).tolist()],
            "worse": [label_names[c] for c in np.flatnonzero(worse[i]).tolist()],
        }
        for i in changed[np.argsort(-np.abs(losses[0] - losses[1])[changed], kind="stable")]
    ]
    return Comparison(metrics, labels, images)
