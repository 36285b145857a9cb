"""From a dataset of the package's schema to batches of tensors."""

from collections.abc import Callable, Mapping, Sequence

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from assocformer_hf.data.identity import dataset_identity, image_digests
from assocformer_hf.data.images.decoding import OR_SKIP, ImageError, decode_stored, stored_name
from assocformer_hf.data.readers.options import BAD_IMAGES
from assocformer_hf.data.schema import DataError
from assocformer_hf.option_values import require


class MultiLabelImages(torch.utils.data.Dataset):
    """The examples of a dataset, transformed: `pixel_values`, `labels` and, where the dataset has it, `unknown`.

    What a random transform draws depends on the seed, the epoch and the example alone, not on the number of workers or
    processes, so that an interrupted epoch can be repeated. An example also has its `index`, and whether it is
    `readable`: with `bad_images="skip"` the next readable one takes the place of one that is not, so that every batch
    is full and every process has as many; the evaluation leaves it out again.

    Args:
        dataset: of the schema of `multilabel_features`.
        transform: RGB image to the tensor that the model takes, or that `scale` takes.
        seed: seed of the random transforms.
        bad_images: what to do with an image that cannot be read: `"error"` or `"skip"`.
        scale: what a training is to do to a batch `(batch, 3, height, width)` once it is on the device.
        soft_labels: `(images, labels)` in [0, 1] or -1, in the place of the dataset's labels.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        transform: Callable[[Image.Image], Tensor],
        seed: int = 0,
        bad_images: str = "error",
        scale: Callable[[Tensor], Tensor] | None = None,
        soft_labels: Tensor | None = None,
    ):
        require({"bad_images": bad_images}, one_of={"bad_images": BAD_IMAGES})
        self.dataset = dataset.cast_column("image", datasets.Image(decode=False))
        self.transform = transform
        self.seed = seed
        self.bad_images = bad_images
        self.scale = scale or nn.Identity()
        self.soft_labels = soft_labels
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch; call it before the loader starts its workers."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self._transformed(self._read(index), index)

    def identify(self) -> tuple[np.ndarray, str]:
        """The images' digests, see [`image_digests`], and the identity of the dataset."""
        digests = image_digests(self.dataset)
        return digests, dataset_identity(self.dataset, digests)

    def name(self, index: int) -> str:
        """The file of an example, where it has one."""
        return stored_name(self.dataset[index]["image"], index)

    def _transformed(self, example: dict, index: int) -> dict:
        """A decoded example as a batch takes it."""
        with torch.random.fork_rng(devices=[]):
            draw = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
            torch.default_generator.manual_seed(int(draw))
            example["pixel_values"] = self.transform(example.pop("image"))
        return example | {"index": index}

    def _read(self, index: int) -> dict:
        for offset in range(len(self)):
            read = (index + offset) % len(self)
            example = self.dataset[read]
            if self.soft_labels is not None:
                example["soft_labels"] = self.soft_labels[read]
            try:
                return example | {"image": decode_stored(example["image"], read), "readable": offset == 0}
            except ImageError as error:
                if self.bad_images == "error":
                    raise ImageError(f"{error}{OR_SKIP}") from error
        raise DataError(f"none of the {len(self)} images can be read, {self.name(0)} being the first")


class MultiLabelCollator:
    """Examples to a batch: `pixel_values` `(batch, 3, height, width)` and multi-hot `labels` `(batch, labels)`.

    The labels are float32: 1 present, 0 absent, -1 unknown, or what the examples have as `soft_labels`.

    Args:
        num_labels: number of labels C.
        with_index: whether the batch also has `index` and `readable`, `(batch,)`, which are no inputs of a model.
    """

    def __init__(self, num_labels: int, with_index: bool = False):
        self.num_labels = num_labels
        self.with_index = with_index

    def __call__(self, examples: Sequence[Mapping]) -> dict[str, Tensor]:
        """Examples of [`MultiLabelImages`] to a batch."""
        labels = torch.zeros(len(examples), self.num_labels)
        for row, example in zip(labels, examples, strict=True):
            if "soft_labels" in example:
                row.copy_(example["soft_labels"])
                continue
            for column, value in (("unknown", -1.0), ("labels", 1.0)):
                indices = example.get(column, [])
                if indices is None or min(indices, default=0) < 0:
                    raise DataError(
                        f"{column} of an image are {indices}: read the dataset by load_multilabel_dataset, which makes "
                        "lists of indices of it"
                    )
                row[indices] = value
        batch = {"pixel_values": torch.stack([example["pixel_values"] for example in examples]), "labels": labels}
        if self.with_index:
            batch |= {key: torch.tensor([example[key] for example in examples]) for key in ("index", "readable")}
        return batch
