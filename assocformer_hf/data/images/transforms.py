"""What an image goes through before the model: one processor for all uses, and the augmentation of training."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor

from assocformer_hf.data.schema import DataError
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.wording import first_line


def create_image_processor(
    image_size: int, image_mean: Sequence[float] | None = None, image_std: Sequence[float] | None = None
) -> AssocFormerImageProcessor:
    """The processor that evaluates, predicts and is saved with the model: square resize, values scaled to [0, 1].

    Args:
        image_size: side of the model's square input in pixels.
        image_mean: mean of each channel that is subtracted after scaling; the paper's recipe has none.
        image_std: standard deviation of each channel that is divided by, with `image_mean`.
    """
    return AssocFormerImageProcessor(
        size={"height": image_size, "width": image_size},
        do_normalize=image_mean is not None,
        image_mean=image_mean,
        image_std=image_std,
    )


def backbone_image_processor(name_or_path: str, image_size: int | None = None) -> AssocFormerImageProcessor:
    """The processor of a pretrained backbone, to go with `AssocFormerForMultiLabel.from_backbone`.

    It has the input size and the normalisation of the pretraining, but no crop: that would cut off labelled objects.

    Args:
        name_or_path: Hub id or folder of the backbone.
        image_size: side of the square input in pixels, where it shall be another.

    Raises:
        DataError: if the backbone does not come with a processor, or takes the colours in another order than RGB.
    """
    try:
        pretrained = AutoImageProcessor.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{name_or_path}: has no image processor ({first_line(error)}); use create_image_processor"
        ) from error
    if hasattr(pretrained, "data_config"):  # timm's
        data = pretrained.data_config
        return create_image_processor(image_size or data["input_size"][-1], data["mean"], data["std"])
    if getattr(pretrained, "do_flip_channel_order", False):
        raise DataError(
            f"{name_or_path}: was trained on images in the order blue, green, red, which this package does not give; "
            "use another backbone, or create_image_processor (normalization: none) and train all of it"
        )
    size = getattr(pretrained, "crop_size", None) or pretrained.size
    native = size["height"] if "height" in size else size["shortest_edge"]
    normalized = pretrained.do_normalize
    return create_image_processor(
        image_size or native,
        pretrained.image_mean if normalized else None,
        pretrained.image_std if normalized else None,
    )


def evaluation_transform(processor: AssocFormerImageProcessor) -> Callable[[Image.Image | Tensor], Tensor]:
    """PIL image or uint8 tensor to `(3, height, width)` as the model takes it, by the processor itself."""
    return partial(_processed, processor)


def training_transform(
    processor: AssocFormerImageProcessor,
    cutout: float = 0.5,
    num_ops: int = 2,
    magnitude: int = 9,
    horizontal_flip: float = 0.0,
) -> Callable[[Image.Image | Tensor], Tensor]:
    """PIL image or uint8 tensor to an augmented one, uint8 `(3, height, width)`.

    The steps are the processor's resize, a horizontal flip, Cutout and RandAugment. [`pixel_scaling`] does the rest on
    the device, so that bytes and not floats go from the workers to it.

    Args:
        processor: gives size and interpolation.
        cutout: side of the square that Cutout hides, as a share of the image's sides; 0 hides nothing.
        num_ops: operations that RandAugment applies one after the other; 0 applies none.
        magnitude: strength of the operations, 0 to 30.
        horizontal_flip: probability of a mirrored image; the paper's recipe has none.

    Source: DeVries & Taylor 2017 (Cutout); Cubuk et al. 2020 (RandAugment, torchvision's). All randomness comes from
    torch's global generator.
    """
    steps = [processor.to_pixels, v2.RandomHorizontalFlip(horizontal_flip), Cutout(cutout)]
    if num_ops:
        # On a PIL image its operations take a quarter of the time that they take on a tensor.
        steps += [v2.ToPILImage(), v2.RandAugment(num_ops, magnitude), v2.PILToTensor()]
    return v2.Compose(steps)


def pixel_scaling(processor: AssocFormerImageProcessor) -> Callable[[Tensor], Tensor]:
    """uint8 images `(batch, 3, height, width)` to the model's input: in [0, 1], or normalised as the processor does.

    Args:
        processor: gives the normalisation.
    """
    steps = [v2.ToDtype(torch.float32, scale=True)]
    if processor.do_normalize:
        steps.append(v2.Normalize(processor.image_mean, processor.image_std))
    return v2.Compose(steps)


def _processed(processor: AssocFormerImageProcessor, image: Image.Image | Tensor) -> Tensor:
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


class Cutout(v2.Transform):
    """Fills a square with one random colour; its centre lies anywhere in the image, so the square may be cut off.

    Args:
        size: side of the square as a share of the image's sides, 0 to 1.

    Source: DeVries & Taylor 2017; the random colour is that of the ASL code, whose recipe the paper follows.
    """

    def __init__(self, size: float = 0.5):
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list) -> dict:
        """Where the square lies (top, left, height, width), in pixels, and its colour."""
        height, width = functional.get_size(flat_inputs[0])
        centre_y, centre_x = torch.randint(height, ()).item(), torch.randint(width, ()).item()
        half_y, half_x = int(height * self.size / 2), int(width * self.size / 2)
        top, left = max(centre_y - half_y, 0), max(centre_x - half_x, 0)
        bottom, right = min(centre_y + half_y, height), min(centre_x + half_x, width)
        colour = torch.randint(256, (3, 1, 1), dtype=torch.uint8)
        return {"i": top, "j": left, "h": bottom - top, "w": right - left, "v": colour}

    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        """Fills the square of a `(3, height, width)` image."""
        return functional.erase(inpt, **params)
