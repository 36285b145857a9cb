"""Images on their way to a trained model: decoded and resized by the loader's workers, scaled by the batch."""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from assocformer_hf.data.images.decoding import ImageError, decode_stored, stored_content, stored_name
from assocformer_hf.model.image_processing_assocformer import MAX_PIXELS, AssocFormerImageProcessor

NO_IMAGE = "a {} is no image; give bytes, a path, a PIL image or an array"
LONGEST_PATH = 4096  # of Linux; longer text is no file's name
Batch = tuple[list[tuple[int, str]], Tensor, list[tuple[str, str]]]
File = str | Path | bytes | bytearray | Image.Image | np.ndarray
Source = File | Mapping


class InferenceImages(torch.utils.data.Dataset):
    """Images as uint8 tensors of the model's input size.

    An item is its index, its name, and the image `(3, height, width)` or the reason why it cannot be read.

    Args:
        dataset: with the column `image`, undecoded.
        processor: of the model.
    """

    def __init__(self, dataset: datasets.Dataset, processor: AssocFormerImageProcessor):
        self.dataset, self.processor = dataset, processor

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, str, Tensor | str]:
        stored = self.dataset[index]["image"]
        name = stored_name(stored, index)
        try:
            return index, name, self.processor.to_pixels(decode_stored(stored, index))
        except ImageError as error:
            return index, name, error.reason


def spread_images(dataset: datasets.Dataset, most: int) -> list[str | bytes]:
    """Files, or their contents, from all over a dataset whose images are not decoded; the same in every call.

    Rows without an image are left out.
    """
    rows, sources = spread(len(dataset), most), []
    for row, stored in zip(rows, dataset.select(rows)["image"], strict=True):
        with suppress(ImageError):
            sources.append(stored_content(stored, stored_name(stored, row)))
    return sources


def spread(count: int, most: int) -> list[int]:
    """Numbers from 0 on below `count`, from its whole length: all, or `most` of them where there are more."""
    chosen = min(count, most)
    return [i * count // chosen for i in range(chosen)]


def inference_batches(images: InferenceImages, batches: Iterable[Sequence[int]], num_workers: int) -> Iterable[Batch]:
    """Loads images in the batches given.

    Returns:
        For each batch the index and name of its readable images, these `(batch, 3, height, width)` in uint8, and name
        and reason of the others.
    """
    return DataLoader(images, batch_sampler=batches, collate_fn=_collate, num_workers=num_workers)


def _collate(items: Sequence[tuple[int, str, Tensor | str]]) -> Batch:
    good = [item for item in items if not isinstance(item[2], str)]
    pixels = torch.stack([image for _, _, image in good]) if good else torch.empty(0)
    return [item[:2] for item in good], pixels, [(name, why) for _, name, why in items if isinstance(why, str)]


def read_source(
    image: Source, processor: AssocFormerImageProcessor, number: int = 0, max_pixels: int = MAX_PIXELS
) -> tuple[str, Tensor]:
    """The name of an image, and the image `(3, height, width)` in uint8 as the processor wants it.

    Args:
        image: a file or its content, an open file, an image, an array, or a row of a dataset with `bytes` and `path`.
        processor: of the model.
        number: what to call an image without a name.
        max_pixels: how many pixels it may have.

    Raises:
        ImageError: if it is none, cannot be read, or is too large.
    """
    if isinstance(image, Mapping):
        name = stored_name(image, number)
        picture: Any = stored_content(image, name)
    else:
        if isinstance(image, str) and ("://" in image or image.startswith("data:") or len(image) > LONGEST_PATH):
            raise ImageError.of(f"{image[:40]}…", "URLs and Base64 are not opened; give the file, or its bytes")
        name = str(image) if isinstance(image, (str, Path)) else getattr(image, "filename", "") or f"image {number}"
        picture = array_image(image, name) if isinstance(image, np.ndarray) else image
        if isinstance(picture, io.TextIOBase):
            raise ImageError.of(name, "a file that is open as text; open it with mode 'rb'")
        picture = picture.read() if hasattr(picture, "read") else picture  # an open file, such as an upload
        if not isinstance(picture, (str, Path, bytes, bytearray, Image.Image)):
            raise ImageError.of(name, NO_IMAGE.format(type(picture).__name__))
    return name, processor.to_pixels(processor.decode(picture, name, max_pixels))


def array_image(array: np.ndarray, name: str) -> Image.Image:
    """An array `(height, width, 3)` in uint8, grey `(height, width)` or with transparency `(…, 4)`, as a picture.

    Raises:
        ImageError: if it is something else.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise ImageError.of(name, f"an array must be (height, width, 3) in uint8, not {array.shape} in {array.dtype}")
    return Image.fromarray(array)
