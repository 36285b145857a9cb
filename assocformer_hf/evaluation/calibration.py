"""How far scores can be taken as probabilities, and temperature scaling, which brings them closer.

The temperature is not a setting beside the model: it is worked into the weights of its readout and its linear layer, so
that everything that runs the model gives the same scaled scores, be it `transformers`' pipeline, the endpoint handler
or an ONNX file.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from transformers import PreTrainedModel

from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.folds import folds

BINS = 15
LARGEST_FACTOR = 100  # the temperature is sought between its inverse and itself


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
    known = targets != -1
    sign = np.where(targets == 1, -1.0, 1.0)
    with np.errstate(invalid="ignore"):
        return (np.logaddexp(0, sign * _logits(scores)) * known).sum(1) / known.sum(1)


def fit_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """The temperature T for which sigmoid(logit / T) has the least log loss on these images.

    Below 1 it makes scores more extreme, above 1 less so. It does not change the order of the scores.

    Args:
        scores: probabilities, `(images, labels)`, of images that the model was not trained on.
        targets: `(images, labels)`: 1 present, 0 absent, -1 unknown (left out).

    Raises:
        DataError: if the labels are all present or all absent, which any confidence would fit, or none is confident
            enough: images that the model separates without a mistake.

    Source: Guo et al. 2017, On calibration of modern neural networks.
    """
    temperature = _best_temperature(scores, targets)
    if temperature < 1.01 / LARGEST_FACTOR:
        raise DataError(
            f"no temperature from 1/{LARGEST_FACTOR} on is the best for these images: the model makes no mistake on "
            "them, and all its scores would become 0 or 1; give more or other images, or calibrate with "
            "--temperature false"
        )
    return temperature


def says_nothing(temperature: float) -> bool:
    """Whether the best temperature would make all scores ½, as where they say nothing about the labels."""
    return temperature > LARGEST_FACTOR / 1.01


def _best_temperature(scores: np.ndarray, targets: np.ndarray) -> float:
    """The best temperature within the bounds."""
    if not ((targets == 1).any() and (targets == 0).any()):
        raise DataError("a temperature is fitted to labels that are present and labels that are absent; give both")
    known = targets != -1
    signed = (np.where(targets == 1, -1.0, 1.0) * _logits(scores))[known]
    bound = np.log(LARGEST_FACTOR)
    fitted = minimize_scalar(
        lambda log_t: np.logaddexp(0, signed / np.exp(log_t)).mean(), bounds=(-bound, bound), method="bounded"
    )
    return float(np.exp(fitted.x))


def scale(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores at a temperature: sigmoid(logit / T)."""
    return expit(_logits(scores) / temperature)


def held_out_scale(scores: np.ndarray, targets: np.ndarray, count: int = 5, seed: int = 0) -> np.ndarray:
    """Scores, each at the temperature that the other folds of the images give: what scaling does on new images."""
    scaled = np.empty(scores.shape)
    for rest, held_out in folds(len(scores), count, seed):
        scaled[held_out] = scale(scores[held_out], _best_temperature(scores[rest], targets[rest]))
    return scaled


@torch.no_grad()
def apply_temperature(model: PreTrainedModel, temperature: float):
    """Divides the logits of a model by T, in its weights.

    The thresholds of its configuration move along: the same labels are predicted. A is unchanged; contributions,
    association and embedding logits are divided too.

    Args:
        model: AssocFormer; changed in place.
        temperature: T, above 0.
    """
    head, config = model.head, model.config
    linear = [head.association.readout] if config.fusion != "linear" else []
    linear += [head.embedding] if config.fusion != "association" else []
    for module in linear:
        module.weight /= temperature
        module.bias /= temperature
    # What a label looks at depends on the scores before the division.
    config.attention_temperature *= temperature
    head.attention_temperature = config.attention_temperature
    config.threshold = float(scale(config.threshold, temperature))
    if config.label_thresholds is not None:
        config.label_thresholds = scale(np.array(config.label_thresholds), temperature).tolist()


def _logits(scores: np.ndarray) -> np.ndarray:
    """In float64, finite: a float32 score of 1 stands for any logit from 16.6 on."""
    return logit(np.clip(np.asarray(scores, dtype=np.float64), 1e-37, 1 - 2**-25))
