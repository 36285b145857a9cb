"""Which images a model was trained on, and which were held out: a digest of each, in a file beside the weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from assocformer_hf.saved_files import file_of_model

IMAGES_FILE = "images_used.safetensors"
DIVIDED = "held out by the package"


@dataclass
class ImagesUsed:
    """The images of a training run, as `image_digests` knows them.

    Attributes:
        trained_on: digests of the training images, uint64, in any order.
        held_out: digests of the images that the best weights were chosen on.
        divided: whether the package held them out, of a dataset that had no validation split.
    """

    trained_on: np.ndarray
    held_out: np.ndarray
    divided: bool = False

    def save(self, folder: str | Path) -> None:
        """Writes `images_used.safetensors`, eight bytes for each image; the digests do not tell what an image shows."""
        metadata = {DIVIDED: str(self.divided)}
        tensors = {"trained_on": np.unique(self.trained_on), "held_out": np.unique(self.held_out)}
        save_file(tensors, Path(folder) / IMAGES_FILE, metadata)

    @classmethod
    def of_model(cls, model: str | Path) -> "ImagesUsed | None":
        """What a model says; None where it says nothing.

        Args:
            model: folder or Hub id.
        """
        file = file_of_model(model, IMAGES_FILE)
        if file is None:
            return None
        with safe_open(file, "np") as content:
            divided = (content.metadata() or {}).get(DIVIDED) == str(True)
            return cls(content.get_tensor("trained_on"), content.get_tensor("held_out"), divided)
