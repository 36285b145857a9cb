"""Batches from a stream of examples, for sets that are larger than the disk."""

from collections.abc import Callable, Iterator

import datasets
import torch
from datasets.utils.file_utils import xopen
from PIL import Image
from torch import Tensor

from assocformer_hf.data.images.decoding import decode_image


class MultiLabelStream(torch.utils.data.IterableDataset):
    """The examples of a stream as [`MultiLabelImages`] gives them; a loader's workers share out its shards.

    Args:
        dataset: from `load_multilabel_dataset(…, streaming=True)`; shuffle it by its own `shuffle(seed, buffer_size)`.
        transform: image to the tensor that the model takes.
    """

    def __init__(self, dataset: datasets.IterableDataset, transform: Callable[[Image.Image], Tensor]):
        self.dataset = dataset.cast_column("image", datasets.Image(decode=False))
        self.transform = transform

    def __iter__(self) -> Iterator[dict]:
        for example in self.dataset:
            stored = example.pop("image")
            content = stored["bytes"]
            if content is None:
                with xopen(stored["path"], "rb") as file:  # a file, or a URL of the Hub
                    content = file.read()
            image = decode_image(content, stored["path"] or "an image of the stream")
            yield example | {"pixel_values": self.transform(image)}
