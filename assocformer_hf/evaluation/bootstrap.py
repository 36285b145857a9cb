"""Confidence intervals of the metrics: how much they would vary if other images had been evaluated."""

import warnings

import numpy as np
from scipy.sparse import csr_array

from assocformer_hf.evaluation.metrics import harmonic_mean, multilabel_metrics, reaches

BLOCK_ENTRIES = 2**22  # of the weights of resamples that are held at a time


def bootstrap_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    threshold: float | np.ndarray = 0.5,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
    compared: tuple[np.ndarray, float | np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Percentile bootstrap over the images.

    An image that is drawn twice raises the AP of a label with few images, so that the resamples lie above the measured
    value as a whole: each interval is moved by the distance of their median from it, within [0, 1]. Of a difference
    both sides are raised alike, and nothing is moved.

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown.
        threshold: see `multilabel_metrics`.
        resamples: how many times as many images are drawn with replacement.
        confidence: share of the resamples that an interval covers.
        seed: of the drawing.
        compared: scores of another model for the same images, and its threshold. The intervals are then of the
            differences, these metrics less the other model's, both on the same drawn images.

    Returns:
        Lower and upper bound: `(2,)` for `mAP`, `CP`, `CR`, `CF1`, `OP`, `OR`, `OF1`, and `(labels, 2)` for
        `per_label_AP`, NaN for a label without positives.

    Raises:
        ValueError: see `multilabel_metrics`.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    measured = multilabel_metrics(scores, targets, threshold)
    if compared is not None:
        compared = np.asarray(compared[0]), compared[1]
        multilabel_metrics(compared[0], targets, compared[1])  # refuses what cannot be measured
    images, generator = len(scores), np.random.default_rng(seed)
    step = max(1, BLOCK_ENTRIES // images)
    blocks = []
    for start in range(0, resamples, step):
        drawn = generator.integers(0, images, (min(step, resamples - start), images))
        weights = np.stack([np.bincount(row, minlength=images) for row in drawn])
        block = weighted_metrics(scores, targets, weights, threshold)
        if compared is not None:
            second = weighted_metrics(compared[0], targets, weights, compared[1])
            block = {name: values - second[name] for name, values in block.items()}
        blocks.append(block)
    tail = (1 - confidence) / 2
    intervals = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")  # a label without positives
        for name in blocks[0]:
            drawn = np.concatenate([block[name] for block in blocks])
            low, middle, high = np.nanquantile(drawn, [tail, 0.5, 1 - tail], axis=0)
            interval = np.stack([low, high], axis=-1)
            if compared is None:
                moved = np.array(measured[name], dtype=float) - middle
                interval = np.clip(interval + moved[..., None], 0, 1)
            intervals[name] = interval
    return intervals


def weighted_metrics(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, threshold: float | np.ndarray = 0.5
) -> dict[str, np.ndarray]:
    """The metrics of `multilabel_metrics` where each image counts as often as its weight says.

    Args:
        scores: see [`bootstrap_metrics`].
        targets: likewise.
        weights: whole numbers, `(resamples, images)`.
        threshold: see `multilabel_metrics`.

    Returns:
        `(resamples,)` for the means, `(resamples, labels)` for `per_label_AP`.
    """
    known, present = targets != -1, targets == 1
    predicted = reaches(scores, threshold) & known
    counts = np.ascontiguousarray(weights.T, dtype=np.float64)  # (images, resamples): an image's are side by side
    predictions, hits, positives = (
        csr_array(mask.T.astype(np.float64)).dot(counts).T for mask in (predicted, predicted & present, present)
    )
    average_precisions = np.stack(
        [_average_precision(scores[:, c], present[:, c], known[:, c], counts) for c in range(scores.shape[1])], axis=1
    )
    counted = positives > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        labels = counted.sum(1)
        class_precision = (hits / np.maximum(predictions, 1) * counted).sum(1) / labels
        class_recall = np.where(counted, hits / positives, 0).sum(1) / labels
        recall = hits.sum(1) / positives.sum(1)  # NaN, as all means are, for a resample that has no label
        precision = np.where(labels, hits.sum(1) / np.maximum(predictions.sum(1), 1), np.nan)
        return {
            "mAP": np.where(counted, average_precisions, 0).sum(1) / labels,
            "CP": class_precision,
            "CR": class_recall,
            "CF1": np.where(labels, harmonic_mean(class_precision, class_recall), np.nan),
            "OP": precision,
            "OR": recall,
            "OF1": np.where(labels, harmonic_mean(precision, recall), np.nan),
            "per_label_AP": average_precisions,
        }


def _average_precision(scores: np.ndarray, present: np.ndarray, known: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of one label in each resample; equal scores count as one threshold.

    Precision counts at the scores of positives only: between two of these, the weights of the other images are summed.
    """
    levels = np.unique(scores[present])
    if not len(levels):
        return np.full(counts.shape[1], np.nan)
    rows = np.flatnonzero(known)
    place = len(levels) - np.searchsorted(levels, scores[rows], side="right")  # 0: from the highest level on
    rows, place = rows[place < len(levels)], place[place < len(levels)]

    def sums(chosen: np.ndarray) -> np.ndarray:
        entries = (np.ones(len(chosen)), (place[chosen], rows[chosen]))
        return csr_array(entries, shape=(len(levels), len(scores))).dot(counts)

    hits = sums(np.flatnonzero(present[rows]))
    with np.errstate(invalid="ignore"):
        precision = hits.cumsum(0) / np.maximum(sums(np.arange(len(rows))).cumsum(0), 1)
        return (precision * hits).sum(0) / hits.sum(0)
