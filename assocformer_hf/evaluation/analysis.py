"""An evaluation label by label and image by image: where a model is right, and what it mixes up."""

from collections.abc import Sequence

import numpy as np

from assocformer_hf.evaluation.calibration import log_loss
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import reaches
from assocformer_hf.evaluation.thresholds import ranked_decisions

CURVE_POINTS = 60
HISTOGRAM_BINS = 20


def label_rows(
    evaluation: Evaluation, label_names: Sequence[str], thresholds: np.ndarray, intervals: np.ndarray | None
) -> list[dict]:
    """For each label its AP with interval, positives, threshold, and precision, recall and F1 at that threshold.

    Args:
        evaluation: of a model.
        label_names: in the order of the columns.
        thresholds: `(labels,)`.
        intervals: of the AP, `(labels, 2)`; None where there are none.

    Returns:
        Dictionaries; a value that does not exist, such as the AP of a label without positives, is None.
    """
    present, predicted = evaluation.targets == 1, _predicted(evaluation, thresholds)
    positives, predictions, hits = present.sum(0), predicted.sum(0), (predicted & present).sum(0)
    rows = []
    for c, name in enumerate(label_names):
        low, high = intervals[c] if positives[c] and intervals is not None else (None, None)
        rows.append(
            {
                "label": name,
                "AP": evaluation.metrics["per_label_AP"][c],
                "AP_low": low,
                "AP_high": high,
                "positives": int(positives[c]),
                "threshold": float(thresholds[c]),
                "precision": hits[c] / predictions[c] if predictions[c] else None,
                "recall": hits[c] / positives[c] if positives[c] else None,
                "F1": 2 * hits[c] / (predictions[c] + positives[c]) if positives[c] else None,
            }
        )
    return rows


def precision_recall_points(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Threshold, recall and precision of one label, `(points, 3)`, by rising recall; 60 at most, evenly by recall.

    Args:
        scores: probabilities, `(images,)`.
        targets: 1 present, 0 absent, -1 unknown (left out), `(images,)`; at least one is present.
    """
    known = targets != -1
    levels, predictions, hits = ranked_decisions(scores[known], targets[known] == 1)
    rises = np.flatnonzero(np.diff(hits, prepend=0))  # elsewhere only precision falls
    rises = rises[np.unique(np.linspace(0, len(rises) - 1, CURVE_POINTS).round().astype(int))]
    return np.stack([levels[rises], hits[rises] / hits[-1], hits[rises] / predictions[rises]], axis=1)


def score_histograms(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of one label, how many images with it and without it have a score in each of 20 equal bins, `(2, 20)`."""
    return np.stack(
        [np.histogram(scores[targets == value], HISTOGRAM_BINS, range=(0, 1))[0] for value in (1, 0)], axis=0
    )


def confused_pairs(
    evaluation: Evaluation, label_names: Sequence[str], thresholds: np.ndarray, count: int = 20
) -> list[dict]:
    """The most frequent pairs of a label that was missed and one that was wrongly predicted in the same image.

    Args:
        evaluation: of a model.
        label_names: in the order of the columns.
        thresholds: `(labels,)`.
        count: how many at most.
    """
    predicted = _predicted(evaluation, thresholds)
    missed = ((evaluation.targets == 1) & ~predicted).astype(np.float64)
    wrong = (predicted & (evaluation.targets == 0)).astype(np.float64)
    together = (missed.T @ wrong).astype(int)
    order = np.argsort(-together, axis=None, kind="stable")[:count]
    rows = []
    for c, j in zip(*np.unravel_index(order, together.shape), strict=True):
        if together[c, j]:
            misses = int(missed[:, c].sum())
            rows.append(
                {"missed": label_names[c], "predicted": label_names[j], "images": int(together[c, j]), "misses": misses}
            )
    return rows


def image_rows(evaluation: Evaluation, label_names: Sequence[str], thresholds: np.ndarray) -> list[dict]:
    """For each image its log loss and labels: those found, those missed and those wrongly predicted.

    Args:
        evaluation: of a model.
        label_names: in the order of the columns.
        thresholds: `(labels,)`.

    Returns:
        Dictionaries, the image with the highest loss first; those without a known label are left out.
    """
    losses, predicted = log_loss(evaluation.scores, evaluation.targets), _predicted(evaluation, thresholds)
    present = evaluation.targets == 1
    parts = {"found": predicted & present, "missed": present & ~predicted, "wrong": predicted & ~present}
    order = np.argsort(-losses, kind="stable")
    rows = []
    for row in order[~np.isnan(losses[order])].tolist():
        labels = {what: [label_names[c] for c in np.flatnonzero(mask[row]).tolist()] for what, mask in parts.items()}
        rows.append({"index": int(evaluation.indices[row]), "log_loss": float(losses[row])} | labels)
    return rows


def _predicted(evaluation: Evaluation, thresholds: np.ndarray) -> np.ndarray:
    return reaches(evaluation.scores, thresholds) & (evaluation.targets != -1)
