"""Metrics of multi-label classification, as the field reports them."""

import numpy as np

TOP_K = 3
# Labels that are ranked together: bounds the memory of a large label set.
LABEL_BLOCK = 256


def average_precision(scores: np.ndarray, targets: np.ndarray, interpolation: str | None = None) -> np.ndarray:
    """Average precision of each label: the area under its raw precision-recall points.

    Equal scores count as one threshold, as in scikit-learn's `average_precision_score`.

    Args:
        scores: `(images, labels)`, higher for more likely.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out of that label's ranking).
        interpolation: None, or `"11point"` for the mean of the highest precisions at recalls 0, 0.1, ... 1 (VOC 2007).

    Returns:
        `(labels,)`, in [0, 1]; NaN for a label without positives.

    Raises:
        ValueError: on malformed input, see [`multilabel_metrics`], or an unknown interpolation.
    """
    if interpolation not in (None, "11point"):
        raise ValueError(f"interpolation must be None or '11point', got {interpolation!r}")
    scores, targets = _checked(scores, targets)
    blocks = [slice(start, start + LABEL_BLOCK) for start in range(0, scores.shape[1], LABEL_BLOCK)]
    return np.concatenate([_ranked_precision(scores[:, b], targets[:, b], interpolation) for b in blocks])


def _ranked_precision(scores: np.ndarray, targets: np.ndarray, interpolation: str | None) -> np.ndarray:
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    ranked_targets = np.take_along_axis(targets, order, axis=0)
    present = ranked_targets == 1
    # The last row of the group of equal scores that a row belongs to: all of it passes the threshold together.
    rows = np.arange(len(scores))[:, None]
    is_last = np.vstack([ranked[1:] != ranked[:-1], np.ones((1, scores.shape[1]), dtype=bool)])
    last = np.minimum.accumulate(np.where(is_last, rows, len(scores))[::-1], axis=0)[::-1]
    found = np.take_along_axis(np.cumsum(present, axis=0), last, axis=0)
    known = np.take_along_axis(np.cumsum(ranked_targets != -1, axis=0), last, axis=0)
    precision = found / np.maximum(known, 1)
    positives = present.sum(0)
    with np.errstate(invalid="ignore"):
        if interpolation is None:
            return (precision * present).sum(0) / positives
        recall = found / positives
    best = [np.where(recall >= level - 1e-12, precision, 0).max(0) for level in np.linspace(0, 1, 11)]
    return np.where(positives > 0, np.mean(best, axis=0), np.nan)


def multilabel_metrics(scores: np.ndarray, targets: np.ndarray, threshold: float | np.ndarray = 0.5) -> dict:
    """The metrics of the multi-label literature, as fractions in [0, 1].

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (counts nowhere).
        threshold: probability from which a label is predicted: one for all, or `(labels,)`.

    Returns:
        A dictionary of numbers that JSON can hold:

        - `mAP`, the mean of `per_label_AP` (a list; None for a label without positives);
        - `CP`, `CR`, `CF1`: mean precision and recall over the labels, and their harmonic mean;
        - `OP`, `OR`, `OF1`: the same over all predictions together;
        - the six with `_top3`, where at most the three highest scores of an image that reach the threshold are
          predicted, as in the published evaluation of ML-GCN;
        - `chance_mAP`: the mean share of positives, which is the expected mAP of random scores;
        - `images`, and `labels_without_positives`, which are left out of every mean over labels.

        A precision without predictions counts as 0.

    Raises:
        ValueError: if the shapes do not fit, a score is not finite, a target is not 1, 0 or -1, or no label at all has
            a positive.
    """
    scores, targets = _checked(scores, targets)
    known, present = targets != -1, targets == 1
    counted = present.any(0)
    if not counted.any():
        raise ValueError("no label is present in any image: mAP has no meaning; evaluate on annotated images")
    average_precisions = average_precision(scores, targets)
    frequencies = present.sum(0)[counted] / known.sum(0)[counted]
    predicted = scores >= threshold
    top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K]
    in_top = np.zeros_like(predicted)
    np.put_along_axis(in_top, top, True, axis=1)
    return (
        {"mAP": float(average_precisions[counted].mean())}
        | _precision_recall(predicted & known, present, counted)
        | _precision_recall(predicted & in_top & known, present, counted, f"_top{TOP_K}")
        | {
            "per_label_AP": [None if np.isnan(value) else float(value) for value in average_precisions],
            "chance_mAP": float(frequencies.mean()),
            "images": len(scores),
            "labels_without_positives": int((~counted).sum()),
        }
    )


def _precision_recall(predicted: np.ndarray, present: np.ndarray, counted: np.ndarray, suffix: str = "") -> dict:
    hits, predictions, positives = (predicted & present).sum(0), predicted.sum(0), present.sum(0)
    class_precision = (hits / np.maximum(predictions, 1))[counted].mean()
    class_recall = (hits[counted] / positives[counted]).mean()
    overall_precision = hits.sum() / max(predictions.sum(), 1)
    overall_recall = hits.sum() / positives.sum()
    values = {
        "CP": class_precision,
        "CR": class_recall,
        "CF1": _harmonic_mean(class_precision, class_recall),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": _harmonic_mean(overall_precision, overall_recall),
    }
    return {name + suffix: float(value) for name, value in values.items()}


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def _checked(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.shape != targets.shape or scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            "scores and targets must both be (images, labels) with at least one of each, "
            f"got {scores.shape} and {targets.shape}"
        )
    if not np.isfinite(scores).all():
        bad = (~np.isfinite(scores)).sum()
        raise ValueError(f"{bad} of {scores.size} scores are NaN or infinite; check the weights that gave them")
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError(f"targets must be 1, 0 or -1 (unknown), got {np.setdiff1d(targets, (-1, 0, 1))[:5].tolist()}")
    return scores, targets
