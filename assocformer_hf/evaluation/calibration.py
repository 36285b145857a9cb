"""How far scores can be taken as probabilities, and Platt scaling, which brings them closer.

The scaling is not a setting beside the model: it is worked into the weights and biases of its readout and its linear
layer, so that everything that runs the model gives the same scaled scores, be it `transformers`' pipeline, the endpoint
handler or an ONNX file.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm
from transformers import PreTrainedModel

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.folds import folds
from assocformer_hf.evaluation.trained_model import NO_NUMBERS

BINS = 15
LEAST_FACTOR = 0.01  # of logits with a standard deviation of 1: where the best is negative, it stays there


@dataclass(frozen=True)
class Scaling:
    """What turns a logit into that of a probability: logit / T + b, the same for all labels.

    Attributes:
        temperature: T, above 0; below 1 it makes scores more extreme, above 1 less so.
        offset: b, in nats; below 0 it lowers all scores.
    """

    temperature: float
    offset: float

    def __call__(self, scores: np.ndarray | float) -> np.ndarray:
        """Scores in [0, 1], of any shape, scaled; in float64."""
        return expit(_logits(scores) / self.temperature + self.offset)


@dataclass
class Reliability:
    """The decisions, one for each image and known label, by their score in bins of equal width.

    Attributes:
        score: mean score of each bin's decisions, `(bins,)`; NaN where there is none.
        frequency: share of them in which the label is present; likewise.
        count: their number.
    """

    score: np.ndarray
    frequency: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of frequency and score over the bins, weighted by decisions."""
        gap = np.nan_to_num(np.abs(self.frequency - self.score))
        return float((gap * self.count).sum() / self.count.sum())


def reliability(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> Reliability:
    """Scores beside what came true.

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out).
        bins: number of bins in [0, 1].

    Source: Naeini et al. 2015; Guo et al. 2017, here of the probability of each label on its own.
    """
    known = targets != -1
    flat, present = np.asarray(scores, dtype=np.float64)[known], targets[known] == 1
    place = np.minimum((flat * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        score = np.bincount(place, flat, bins) / count
        frequency = np.bincount(place, present, bins) / count
    return Reliability(score, frequency, count)


def log_loss(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean binary cross-entropy of each image over its known labels, `(images,)`, in nats; NaN where none is known."""
    with np.errstate(invalid="ignore"):
        return _losses(scores, targets).sum(1) / (targets != -1).sum(1)


def _losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The binary cross-entropy of each label, in nats; 0 where it is unknown."""
    sign = np.where(targets == 1, -1.0, 1.0)
    return np.logaddexp(0, sign * _logits(scores)) * (targets != -1)


def fit_scaling(scores: np.ndarray, targets: np.ndarray) -> Scaling:
    """The scaling with which the scores have the least log loss on these images. It keeps their order.

    A temperature alone moves no score across ½. A loss that counts the absent labels less, as the asymmetric one does,
    leaves scores too high: the offset mends that.

    Args:
        scores: probabilities, `(images, labels)`, of images that the model was not trained on.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out).

    Raises:
        DataError: if the labels are all present or all absent, which any confidence would fit, or no confidence is
            high enough: the model separates them without a mistake.

    Source: Platt 1999, Probabilistic outputs for support vector machines; Guo et al. 2017, On calibration of modern
        neural networks.
    """
    scaling = _best_scaling(scores, targets)
    least, most = scores[targets == 1].min(), scores[targets == 0].max()
    if least >= most and scores[targets != -1].min() < scores[targets != -1].max():
        raise DataError(
            "no scaling is the best for these images: the model makes no mistake on them, and all its scores would "
            "become 0 or 1; give more or other images, or calibrate with --no_scaling"
        )
    return scaling


def is_no_better_than_chance(scores: np.ndarray, targets: np.ndarray) -> bool:
    """Whether scores tell which images have a label no better than chance may.

    Chance is to give each image the labels of another: the covariance of logits and labels, label by label and summed,
    is to lie in the highest hundredth of what it is over all permutations of the images, which is about normal.

    Args:
        scores: probabilities, `(images, labels)`.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out).

    Source: Hoeffding 1951, A combinatorial central limit theorem.
    """
    known = targets != -1
    logits, present = (_centred(values, known) for values in (_logits(scores), targets == 1))
    spread = np.sqrt((logits.T @ logits * (present.T @ present)).sum() / max(len(scores) - 1, 1))
    return not (logits * present).sum() > norm.ppf(0.99) * spread


def _centred(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The known values less the mean of their column; 0 for the others."""
    means = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, values - means, 0)


def _best_scaling(scores: np.ndarray, targets: np.ndarray) -> Scaling:
    """The best scaling with a temperature above 0."""
    if not ((targets == 1).any() and (targets == 0).any()):
        raise DataError("scaling is fitted to labels that are present and labels that are absent; give both")
    known = targets != -1
    logits, present = _logits(scores)[known], (targets == 1)[known]
    if not np.isfinite(logits).all():
        raise DataError(NO_NUMBERS)
    mean, spread = logits.mean(), logits.std() or 1.0
    logits = (logits - mean) / spread

    def loss(scaling: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = scaling[0] * logits + scaling[1]
        error = expit(scaled) - present
        gradient = np.array([(error * logits).mean(), error.mean()])
        return (np.logaddexp(0, scaled) - present * scaled).mean(), gradient

    bounds = [(LEAST_FACTOR, None), (None, None)]
    precisely = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    factor, offset = minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B", options=precisely).x
    return Scaling(float(spread / factor), float(offset - factor * mean / spread))


def held_out_scale(scores: np.ndarray, targets: np.ndarray, count: int = 5, seed: int = 0) -> np.ndarray:
    """Scores, each scaled as the other folds of the images have it: what scaling does on new images.

    Raises:
        DataError: if the images less those of a fold have no label that is present, or none that is absent.
    """
    scaled = np.empty(scores.shape)
    for rest, held_out in folds(len(scores), count, seed):
        if not all((targets[rest] == state).any() for state in (0, 1)):
            raise DataError(
                "too few images for the cross-validation: all labels that are present, or absent, lie in one of its "
                "folds; give more images, or calibrate with --no_scaling"
            )
        scaled[held_out] = _best_scaling(scores[rest], targets[rest])(scores[held_out])
    return scaled


@torch.no_grad()
def apply_scaling(model: PreTrainedModel, scaling: Scaling) -> None:
    """Scales the logits of a model, in its weights and biases.

    The thresholds of its configuration move along: the same labels are predicted. A is unchanged; contributions and
    evidence are divided by T, and the offset is added to the logits of association and embedding.

    Args:
        model: AssocFormer; changed in place.
        scaling: what [`fit_scaling`] found.
    """
    head, config = model.head, model.config
    parts = [head.association.readout if config.fusion != "linear" else None]
    parts += [head.embedding if config.fusion != "association" else None]
    for part, share in zip(parts, head.fusion_weights, strict=True):
        if part is not None:
            part.weight /= scaling.temperature
            part.bias /= scaling.temperature
            part.bias += scaling.offset * share / sum(weight**2 for weight in head.fusion_weights)
    # What a label looks at depends on the scores before the division.
    config.attention_temperature *= scaling.temperature
    head.attention_temperature = config.attention_temperature
    config.threshold = float(scaling(config.threshold))
    if config.label_thresholds is not None:
        config.label_thresholds = scaling(np.array(config.label_thresholds)).tolist()


def _logits(scores: np.ndarray | float) -> np.ndarray:
    """In float64, finite: a float32 score of 1 stands for any logit from 16.6 on."""
    return logit(np.clip(np.asarray(scores, dtype=np.float64), 1e-37, 1 - 2**-25))
