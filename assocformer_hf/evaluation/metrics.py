"""Metrics of multi-label classification, as the field reports them."""

from pathlib import Path

import numpy as np
from scipy.special import digamma

DECISION_METRICS = ("CP", "CR", "CF1", "OP", "OR", "OF1")  # which depend on the threshold
HEADLINE = ("mAP", *DECISION_METRICS, "chance_mAP")  # what tables and cards show
TOP_K = 3
# What is read at a time: bounds the memory where scores and targets are mapped from files.
LABEL_BLOCK = 64
IMAGE_BLOCK_ENTRIES = 2**21


def average_precision(scores: np.ndarray, targets: np.ndarray, interpolation: str | None = None) -> np.ndarray:
    """Average precision of each label: the area under its raw precision-recall points.

    Equal scores count as one threshold, as in scikit-learn's `average_precision_score`.

    Args:
        scores: `(images, labels)`, finite, higher for more likely; may be a `numpy.memmap`, of which blocks are read.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out of that label's ranking); likewise.
        interpolation: None, or `"11point"` for the mean of the highest precisions at recalls 0, 0.1, ... 1 (VOC 2007).

    Returns:
        `(labels,)`, in [0, 1]; NaN for a label without positives.

    Raises:
        ValueError: if the shapes do not fit, a score is not finite, a target is not 1, 0 or -1, or on an unknown
            interpolation.
    """
    if interpolation not in (None, "11point"):
        raise ValueError(f"interpolation must be None or '11point', got {interpolation!r}")
    scores, targets = _same_shape(scores, targets)
    values = np.empty(scores.shape[1])
    for start in range(0, scores.shape[1], LABEL_BLOCK):
        block = slice(start, start + LABEL_BLOCK)
        columns = scores[:, block].T.copy()
        _check_finite(columns.T)
        own_targets = targets[:, block].T.copy()
        _check_targets(own_targets)
        pairs = zip(columns, own_targets, strict=True)
        values[block] = [_label_average_precision(*pair, interpolation) for pair in pairs]
    return values


def _label_average_precision(scores: np.ndarray, targets: np.ndarray, interpolation: str | None) -> float:
    """Of one label: precision changes for the better at the scores of positives only, so those are the points."""
    positives = np.sort(scores[targets == 1])
    if not len(positives):
        return np.nan
    unknown = targets == -1
    known = np.sort(scores[~unknown] if unknown.any() else scores)
    found = len(positives) - np.searchsorted(positives, positives)
    precision = found / (len(known) - np.searchsorted(known, positives))
    if interpolation is None:
        return precision.mean()
    recall = found / len(positives)
    return np.mean([precision[recall >= level - 1e-12].max(initial=0) for level in np.linspace(0, 1, 11)])


def multilabel_metrics(scores: np.ndarray, targets: np.ndarray, threshold: float | np.ndarray = 0.5) -> dict:
    """The metrics of the multi-label literature, as fractions in [0, 1].

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (counts nowhere).
        threshold: probability from which a label is predicted: one for all, or `(labels,)`; rounded as the scores are.

    Returns:
        A dictionary of numbers that JSON can hold:

        - `mAP`, the mean of `per_label_AP` (a list; None for a label without positives);
        - `CP`, `CR`, `CF1`: mean precision and recall over the labels, and their harmonic mean;
        - `OP`, `OR`, `OF1`: the same over all predictions together;
        - the six with `_top3`, where at most the three highest scores of an image that reach the threshold are
          predicted, as in the published evaluation of ML-GCN;
        - `chance_mAP`: the expected mAP of random scores, see [`chance_average_precision`];
        - `images`, and `labels_without_positives`, which are left out of every mean over labels.

        A precision without predictions counts as 0.

    Raises:
        ValueError: if the shapes do not fit, a score or threshold is not between 0 and 1, a target is not 1, 0 or -1,
            or no label at all has a positive.
    """
    scores, targets = _same_shape(scores, targets)
    if not _are_probabilities(np.asarray(threshold)):
        raise ValueError(f"threshold must be between 0 and 1, got {np.ravel(threshold)[:5].tolist()}")
    if np.shape(threshold) not in ((), (1,), scores.shape[1:]):
        raise ValueError(
            f"threshold must be a number, or one for each of {scores.shape[1]} labels, got {np.shape(threshold)}"
        )
    counts = _count(scores, targets, threshold)
    counted = counts["positives"] > 0
    if not counted.any():
        raise ValueError("no label is present in any image: mAP has no meaning; evaluate on annotated images")
    average_precisions = average_precision(scores, targets)
    chance = chance_average_precision(counts["positives"][counted], counts["known"][counted])
    return (
        {"mAP": float(average_precisions[counted].mean())}
        | _precision_recall(counts["hits"], counts["predictions"], counts["positives"])
        | _precision_recall(counts["top_hits"], counts["top_predictions"], counts["positives"], f"_top{TOP_K}")
        | {
            "per_label_AP": [None if np.isnan(value) else float(value) for value in average_precisions],
            "chance_mAP": float(chance.mean()),
            "images": len(scores),
            "labels_without_positives": int((~counted).sum()),
        }
    )


def chance_average_precision(positives: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The expected average precision of random scores without ties.

    The image at rank k has the label with probability m/n, and then m-1 of the n-1 others have it too. So precision at
    its rank is expected to be (1 + (k-1)(m-1)/(n-1)) / k, and AP is the mean of that over all ranks,
    H/n + (1 - H/n) (m-1)/(n-1), where H = 1 + 1/2 + ... + 1/n. That is more than the label's share m/n of the images,
    and much more for a rare label.

    Args:
        positives: m, how many images have the label, at least 1; `(labels,)`.
        images: n, for how many it is known, likewise.

    Returns:
        `(labels,)`, in (0, 1].
    """
    images = np.asarray(images, dtype=float)
    first = (digamma(images + 1) + np.euler_gamma) / images
    return first + (1 - first) * (np.asarray(positives) - 1) / np.maximum(images - 1, 1)


def _count(scores: np.ndarray, targets: np.ndarray, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
    """Counts for each label, over blocks of images, whose values are checked on the way."""
    names = ("known", "positives", "predictions", "hits", "top_predictions", "top_hits")
    counts = {name: np.zeros(scores.shape[1], dtype=np.int64) for name in names}
    step = max(1, IMAGE_BLOCK_ENTRIES // scores.shape[1])
    for start in range(0, len(scores), step):
        block, block_targets = scores[start : start + step], targets[start : start + step]
        _check_values(block, block_targets, start)
        known, present = block_targets != -1, block_targets == 1
        predicted = reaches(block, threshold) & known
        top = predicted & _highest(block if known.all() else np.where(known, block, -np.inf), TOP_K)
        masks = (known, present, predicted, predicted & present, top, top & present)
        for name, mask in zip(names, masks, strict=True):
            counts[name] += np.count_nonzero(mask, axis=0)
    return counts


def reaches(scores: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Where scores are at least the threshold, `(images, labels)`.

    A float32 score of 0.7 is less than 0.7 in float64, and reaches a threshold of 0.7 all the same.
    """
    return scores >= np.asarray(threshold, dtype=scores.dtype if scores.dtype.kind == "f" else float)


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Marks the highest scores of each row; of equal ones, those that come first."""
    if scores.shape[1] <= count:
        return np.ones(scores.shape, dtype=bool)
    last = np.partition(scores, -count, axis=1)[:, -count, None]
    above, equal = scores > last, scores == last
    return above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdims=True)))


def _precision_recall(hits: np.ndarray, predictions: np.ndarray, positives: np.ndarray, suffix: str = "") -> dict:
    counted = positives > 0
    class_precision = (hits / np.maximum(predictions, 1))[counted].mean()
    class_recall = (hits[counted] / positives[counted]).mean()
    overall_precision = hits.sum() / max(predictions.sum(), 1)
    overall_recall = hits.sum() / positives.sum()
    values = {
        "CP": class_precision,
        "CR": class_recall,
        "CF1": harmonic_mean(class_precision, class_recall),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": harmonic_mean(overall_precision, overall_recall),
    }
    return {name + suffix: float(value) for name, value in values.items()}


def harmonic_mean(a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """2ab / (a + b) of fractions in [0, 1], of any one shape; 0 where both are 0, or one is NaN."""
    total = np.add(a, b)
    return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1), 0)


def _same_shape(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, targets = _array(scores), _array(targets)
    if scores.shape != targets.shape or scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            "scores and targets must both be (images, labels) with at least one of each, "
            f"got {scores.shape} and {targets.shape}"
        )
    return scores, targets


def _array(values) -> np.ndarray:
    """Arrays, lists and tensors of torch, on any device and in half precision too, as arrays."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize == 2 else values
    return np.asanyarray(values)


def _check_values(scores: np.ndarray, targets: np.ndarray, first: int):
    """Of a block whose first image has that number."""
    _check_finite(scores, first)
    if not _are_probabilities(scores):
        raise ValueError(
            f"scores must be probabilities between 0 and 1, got {scores.min():g} to {scores.max():g}; of logits take "
            "the sigmoid, of percentages the hundredth part"
        )
    _check_targets(targets)


def _check_targets(targets: np.ndarray):
    wrong = (targets != 0) & (targets != 1) & (targets != -1)
    if wrong.any():
        raise ValueError(f"targets must be 1, 0 or -1 (unknown), got {np.unique(targets[wrong])[:5].tolist()}")


def _are_probabilities(values: np.ndarray) -> bool:
    """Whether they lie between 0 and 1, but for rounding, as that of a mean of models."""
    return bool(values.min() >= -1e-6 and values.max() <= 1 + 1e-6)


def _check_finite(scores: np.ndarray, first: int = 0):
    """Of a block whose first image has that number."""
    finite = np.isfinite(scores)
    if not finite.all():
        image = first + int((~finite).any(1).argmax())
        raise ValueError(
            f"{(~finite).sum()} scores are NaN or infinite, the first in image {image}; check the weights that gave "
            "them"
        )


def evaluate_module_path() -> str:
    """The folder of the package's module for the library `evaluate`: `evaluate.load(evaluate_module_path())`."""
    return str(Path(__file__).with_name("multilabel"))
