"""Where in an image the model sees a label, by captum: `pip install "assocformer_hf[explain]"`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from assocformer_hf.data.schema import DataError
from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
from assocformer_hf.option_values import suggestion

METHODS = ("occlusion", "integrated_gradients")
WINDOW = 1 / 8  # side of the square that is hidden, as a share of the image's; it moves by half of itself
STEPS = 32  # of the path that the gradients are taken on
BATCH = 16  # altered images that go through the model together


def locate(model: PreTrainedModel, pixel_values: Tensor, label: str, method: str = "occlusion") -> np.ndarray:
    """What each pixel does for a label's logit.

    Args:
        model: AssocFormer, in evaluation mode.
        pixel_values: one image as the model takes it, `(1, 3, height, width)`.
        label: the label's name.
        method: `"occlusion"`: how far the logit falls when a square around the pixel takes the image's mean colour,
            averaged over the squares that cover it; or `"integrated_gradients"` from that colour to the image, summed
            over the channels: the map sums to the difference of the logits, nearly.

    Returns:
        `(height, width)`: positive where the image speaks for the label.

    Raises:
        DataError: on an unknown method or label, or if captum is not installed.

    Source: Zeiler & Fergus 2014 (occlusion); Sundararajan et al. 2017 (integrated gradients).
    """
    if method not in METHODS:
        raise DataError(f"the method must be one of {', '.join(METHODS)}; got {method!r}")
    require_labels(model.config, [label])
    try:
        from captum.attr import IntegratedGradients, Occlusion
    except ImportError as error:
        raise DataError('captum is not installed: pip install "assocformer_hf[explain]"') from error

    def logits(batch: Tensor) -> Tensor:
        return model(batch).logits

    target, baseline = (
        model.config.label_names.index(label),
        pixel_values.mean((2, 3), keepdim=True).expand_as(pixel_values),
    )
    if method == "integrated_gradients":
        found = IntegratedGradients(logits).attribute(
            pixel_values, baseline, target, n_steps=STEPS, internal_batch_size=BATCH
        )
        return found[0].sum(0).detach().cpu().numpy()
    channels = pixel_values.shape[1]
    window = [max(round(side * WINDOW), 1) for side in pixel_values.shape[2:]]
    with torch.no_grad():
        found = Occlusion(logits).attribute(
            pixel_values,
            (channels, *window),
            (channels, *(max(side // 2, 1) for side in window)),
            baseline,
            target,
            perturbations_per_eval=BATCH,
        )
    return found[0, 0].cpu().numpy()  # all channels are hidden together


def require_labels(config: AssocFormerConfig, labels: Sequence[str]) -> None:
    """Refuses labels that a model does not know.

    Raises:
        DataError: naming the first, and what it was likely meant to be.
    """
    if isinstance(labels, str):
        raise DataError(f"labels are a list of names, such as [{labels!r}]; got the text {labels!r}")
    if unknown := [label for label in labels if label not in config.label_names]:
        hint = suggestion(unknown[0], config.label_names) or f"; it knows {', '.join(config.label_names)}"
        raise DataError(f"the model does not know the label {unknown[0]!r}{hint}")
