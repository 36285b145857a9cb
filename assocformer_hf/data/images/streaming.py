"""Examples of streams, for sets that are larger than the disk."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import PurePath

import datasets
import numpy as np
import torch
from datasets.utils.file_utils import xopen
from PIL import Image
from torch import Tensor

from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.images.decoding import OR_SKIP, ImageError, decode_image, stored_content
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.data.streams import read_shard, undecoded


class MultiLabelStream(torch.utils.data.IterableDataset):
    """The examples of a stream as [`MultiLabelImages`] gives them; a loader's workers share out its shards.

    Args:
        dataset: from `load_multilabel_dataset(…, streaming=True)`; shuffle it by its own `shuffle(seed, buffer_size)`.
        transform: image to the tensor that the model takes.
    """

    def __init__(self, dataset: datasets.IterableDataset, transform: Callable[[Image.Image], Tensor]):
        self.dataset = undecoded(dataset)
        self.transform = transform

    def __iter__(self) -> Iterator[dict]:
        for example in self.dataset:
            image = _decode(example.pop("image"), "an image of the stream")
            yield example | {"pixel_values": self.transform(image)}


class StreamedImages(MultiLabelImages):
    """The images to train on, as a stream: a loader reads the examples in order, its workers decode and transform them.

    An example's index is its place in the whole of the shards, in their own order. A batch is indexed by the examples
    themselves, which the loader's sampler has read: see `StreamOrder`. With `bad_images="skip"` the next readable one
    of the batch takes the place of one that is not.

    Args:
        dataset: a split of a `StreamedDataset`.
        files: of its shards.
        rows: how many examples each shard holds, see `shard_rows`.
        transform: see [`MultiLabelImages`].
        seed: likewise.
        bad_images: likewise.
        scale: likewise.
        buffer: examples that are in memory to be shuffled.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        files: Sequence[str],
        rows: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        seed: int = 0,
        bad_images: str = "error",
        scale: Callable[[Tensor], Tensor] | None = None,
        buffer: int = 1000,
    ):
        super().__init__(dataset, transform, seed, bad_images, scale)
        self.files, self.rows, self.buffer = files, rows, buffer
        self.ends = list(accumulate(rows))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"dataset": None}  # workers get examples, and the stream's functions do not travel

    def read(self, shard: int, start: int = 0) -> Iterator[tuple[int, dict]]:
        """The examples of a shard with their indices, undecoded, from the one at `start` on.

        Raises:
            DataError: at the end of the shard, if it holds fewer or more than were counted.
        """
        first = self.ends[shard] - self.rows[shard] + start
        yield from enumerate(read_shard(self.dataset, shard, start, self.rows[shard], self.files[shard]), first)

    def __getitems__(self, batch: Sequence[tuple[int, dict]]) -> list[dict]:
        images = [self._image(index, example) for index, example in batch]
        readable = [place for place, image in enumerate(images) if image is not None]
        if not readable:
            raise DataError(f"none of {len(batch)} images can be read, {self.name(batch[0][0])} being the first")
        examples = []
        for place, (index, _) in enumerate(batch):
            source = next((other for other in readable if other >= place), readable[0])
            example = batch[source][1] | {"image": images[source], "readable": source == place}
            examples.append(self._transformed(example, index))
        return examples

    def name(self, index: int) -> str:
        """The file of an example, and its place there."""
        shard = bisect_right(self.ends, index)
        return f"{self.files[shard]}, example {index - self.ends[shard] + self.rows[shard]}"

    def identify(self) -> tuple[np.ndarray, str]:
        """No digest of any image, which all would have to be read for, and the identity of the shards and labels."""
        names = [PurePath(file).name for file in self.files]
        content = json.dumps([names, list(self.rows), label_names(self.dataset)])
        return np.empty(0, np.uint64), hashlib.sha256(content.encode()).hexdigest()

    def _image(self, index: int, example: Mapping) -> Image.Image | None:
        try:
            return _decode(example["image"], self.name(index))
        except ImageError as error:
            if self.bad_images == "error":
                raise ImageError(f"{error}{OR_SKIP}") from error
            return None


def _decode(stored: Mapping | None, name: str) -> Image.Image:
    content = stored_content(stored, name)
    if isinstance(content, str):
        with xopen(content, "rb") as file:  # a file, or a URL of the Hub
            content = file.read()
    return decode_image(content, stored["path"] or name)
