"""Models that were trained: all of their weights are there, or there is no model."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import IMAGE_PROCESSOR_NAME

from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel, fixed_input_size
from assocformer_hf.saved_files import ModelFileError, require_model
from assocformer_hf.wording import some

NO_NUMBERS = "the model gives scores that are no numbers"  # its weights are broken, or half precision overflows


def load_model_and_processor(name_or_path: str | Path) -> tuple[AssocFormerForMultiLabel, AssocFormerImageProcessor]:
    """A trained model, in evaluation mode, and what prepares images for it.

    Args:
        name_or_path: its folder or Hub id.

    Raises:
        ModelFileError: if there is no such model, a file of it is missing, or its processor gives images of a size that
            it does not take.
        ConfigurationError: as [`load_trained_model`].
    """
    require_model(name_or_path)
    model, processor = load_trained_model(name_or_path), load_processor(name_or_path)
    height, width = (processor.size[side] for side in ("height", "width"))
    if (fixed := fixed_input_size(model.backbone)) not in (None, (height, width)):
        raise ModelFileError(
            f"{name_or_path}: {IMAGE_PROCESSOR_NAME} says {height} x {width} pixels, and the model takes {fixed[0]} x "
            f"{fixed[1]}: put these there, or save it anew from from_pretrained(…, image_size={height})"
        )
    return model, processor


def load_processor(name_or_path: str | Path) -> AssocFormerImageProcessor:
    """What prepares images for a trained model.

    Raises:
        ModelFileError: if it does not say to which height and width images are resized.
    """
    saved, _ = AssocFormerImageProcessor.get_image_processor_dict(name_or_path)
    processor = AssocFormerImageProcessor.from_dict(saved)
    # transformers wants the width beside the height.
    if "size" not in saved or not processor.do_resize or "height" not in processor.size:
        raise ModelFileError(
            f"{name_or_path}: {IMAGE_PROCESSOR_NAME} must say do_resize true, and the height and width of the images "
            "as size; write those of the training there"
        )
    return processor


def square_side(processor: AssocFormerImageProcessor) -> int:
    """The side in pixels of the square images that a processor gives.

    Raises:
        ModelFileError: if they are no squares.
    """
    height, width = processor.size["height"], processor.size["width"]
    if height != width:
        raise ModelFileError(
            f"{IMAGE_PROCESSOR_NAME} says {height} x {width} pixels; ONNX Runtime is given squares: run it with torch"
        )
    return height


def load_trained_model(name_or_path: str | Path) -> AssocFormerForMultiLabel:
    """A model whose scores are to be believed, in evaluation mode.

    `from_pretrained` gives weights that it does not find random values, which suits a head that is yet to be trained.

    Args:
        name_or_path: the folder or Hub id of a trained model.

    Raises:
        ConfigurationError: if some of its weights are missing, or of another shape than its configuration says, or they
            cannot be read.
    """
    try:
        model, found = AssocFormerForMultiLabel.from_pretrained(
            name_or_path, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise ConfigurationError(
            f"{name_or_path}: its weights cannot be read ({error}): fetch the folder again, or train it again"
        ) from error
    if found["mismatched_keys"]:
        name, stored, wanted = min(found["mismatched_keys"])
        raise ConfigurationError(
            f"{name_or_path}: its weights are of another model than its config.json says ({name} is {tuple(stored)}, "
            f"not {tuple(wanted)}); labels and sizes of a trained model cannot be changed there"
        )
    if missing := sorted(found["missing_keys"]):
        raise ConfigurationError(
            f"{name_or_path}: its weights lack {some(missing, 3)}: the folder is not whole, or of another "
            "version of this package; fetch it again, or train it again"
        )
    if unused := sorted(found["unexpected_keys"]):
        raise ConfigurationError(
            f"{name_or_path}: its weights have {some(unused, 3)}, which the model that its config.json describes has "
            "not: put back the config.json that it was saved with"
        )
    return model.eval()


def model_digest(model: PreTrainedModel) -> str:
    """SHA-256 of configuration and weights, wherever they lie, as 64 hexadecimal digits."""
    config = model.config.to_dict() | dict.fromkeys(("_name_or_path", "transformers_version"))
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
