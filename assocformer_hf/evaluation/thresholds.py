"""Decision thresholds chosen on images that the model was not trained on, and what they gain on others."""

from collections.abc import Sequence

import numpy as np

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.folds import folds
from assocformer_hf.evaluation.metrics import DECISION_METRICS, multilabel_metrics, reaches
from assocformer_hf.evaluation.options import MIN_POSITIVES, require_goal
from assocformer_hf.wording import counted, some


def choose_thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    goal: str = "f1",
    value: float | None = None,
    per_label: bool = False,
    min_positives: int = MIN_POSITIVES,
) -> float | np.ndarray:
    """The threshold, or one for each label, that serves a goal best.

    A threshold lies halfway between two scores. One for all labels is chosen over all decisions together, so that
    `"f1"` maximises OF1.

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out).
        goal: `"f1"`; `"precision"`, the highest recall at a precision of at least `value`, or where no threshold
            reaches it, the highest precision; or `"recall"`, the highest threshold whose recall is at least `value`.
        value: the precision or recall aimed at, in (0, 1].
        per_label: whether each label gets its own.
        min_positives: a label with fewer positives gets the threshold of all labels together: one chosen on a handful
            of images would follow their chance.

    Returns:
        A number, or `(labels,)`, in [0, 1].

    Raises:
        OptionError: on an unknown goal, or a value that does not go with it.
        DataError: if no label is present anywhere.
    """
    require_goal(goal, value)
    scores, present, known = np.asarray(scores, dtype=np.float64), targets == 1, targets != -1
    if not present.any():
        raise DataError("no label is present in any image: a threshold cannot be chosen on these")
    common = _choose(scores[known], present[known], goal, value)
    if not per_label:
        return common
    thresholds = np.full(scores.shape[1], common)
    for c in np.flatnonzero(present.sum(0) >= max(min_positives, 1)):
        thresholds[c] = _choose(scores[known[:, c], c], present[known[:, c], c], goal, value)
    return thresholds


def missed_goal(
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds: float | np.ndarray,
    goal: str,
    value: float | None,
    label_names: Sequence[str],
) -> str:
    """A sentence on a precision that no threshold reaches on these images; nothing where it is reached.

    Args:
        scores: see [`choose_thresholds`].
        targets: likewise.
        thresholds: what it returned.
        goal: likewise.
        value: likewise.
        label_names: in the order of the columns.
    """
    if goal != "precision":  # any recall is reached
        return ""
    metrics = multilabel_metrics(scores, targets, thresholds)
    if np.ndim(thresholds) == 0:
        if metrics["OP"] >= value - 1e-12:
            return ""
        return f"no threshold reaches a precision of {value} on these images; the highest is {metrics['OP']:.2f}"
    present, predicted = targets == 1, reaches(scores, thresholds) & (targets != -1)
    hits, predictions = (predicted & present).sum(0), predicted.sum(0)
    missed = (hits < (value - 1e-12) * predictions).tolist()
    below = [name for name, is_missed in zip(label_names, missed, strict=True) if is_missed]
    if not below:
        return ""
    return f"{counted(len(below), 'label')} below a precision of {value} on these images: {some(below, 5)}"


def ranked_decisions(scores: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What every threshold would predict.

    Args:
        scores: probabilities of decisions, `(decisions,)`.
        present: whether the label is there, likewise.

    Returns:
        The different scores from the highest on; for each the number of decisions with at least that score, and how
        many of these are right.
    """
    order = np.argsort(-scores)
    ranked = scores[order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # equal scores are predicted together
    return ranked[last], last + 1, present[order].cumsum()[last]


def _choose(scores: np.ndarray, present: np.ndarray, goal: str, value: float | None) -> float:
    levels, predictions, hits = ranked_decisions(scores, present)
    precision, recall = hits / predictions, hits / present.sum()
    if goal == "f1":
        best = (2 * hits / (predictions + present.sum())).argmax()
    elif goal == "recall":
        best = (recall >= value - 1e-12).argmax()
    else:
        best = np.flatnonzero(precision >= min(value, precision.max()) - 1e-12)[-1]
    below = levels[best + 1] if best + 1 < len(levels) else 0.0
    middle = (levels[best] + below) / 2
    # Decisions are made in float32, where the middle of two neighbours is one of them.
    return float(middle if np.float32(below) < np.float32(middle) <= np.float32(levels[best]) else levels[best])


def cross_validate_thresholds(
    scores: np.ndarray, targets: np.ndarray, baseline: float | np.ndarray = 0.5, count: int = 5, seed: int = 0, **choice
) -> dict:
    """What chosen thresholds are worth on images that they were not chosen on.

    Args:
        scores: see [`choose_thresholds`].
        targets: likewise.
        baseline: the threshold to compare with.
        count: number of folds; the thresholds for each are chosen on all the others.
        seed: of the division into folds.
        choice: the goal, see [`choose_thresholds`].

    Raises:
        DataError: as [`choose_thresholds`], and if no label is left to choose on outside of a fold.

    Returns:
        `baseline` and `chosen`, each with CP, CR, CF1, OP, OR and OF1 over the held-out decisions of all folds
        together, and `fold_gains`, for CF1 and OF1 the gain in each fold.
    """
    chosen, gains = np.zeros(scores.shape), {"CF1": [], "OF1": []}
    for rest, held_out in folds(len(scores), count, seed):
        if not (targets[rest] == 1).any():
            raise DataError(
                f"all images with labels are in one of {count} folds, and outside of it no threshold can be chosen; "
                "give more images"
            )
        chosen[held_out] = scores[held_out] >= choose_thresholds(scores[rest], targets[rest], **choice)
        if (targets[held_out] == 1).any():
            before = multilabel_metrics(scores[held_out], targets[held_out], baseline)
            after = multilabel_metrics(chosen[held_out], targets[held_out])
            for key, values in gains.items():
                values.append(after[key] - before[key])
    before, after = multilabel_metrics(scores, targets, baseline), multilabel_metrics(chosen, targets)
    return {
        "baseline": {key: before[key] for key in DECISION_METRICS},
        "chosen": {key: after[key] for key in DECISION_METRICS},
        "fold_gains": gains,
    }
