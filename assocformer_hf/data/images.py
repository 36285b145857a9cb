"""From a dataset of the package's schema to batches of tensors."""

from collections.abc import Callable, Mapping, Sequence

import datasets
import numpy as np
import torch
from torch import Tensor

from assocformer_hf.data.decoding import decode_tensor


class MultiLabelImages(torch.utils.data.Dataset):
    """The examples of a dataset, transformed: `pixel_values`, `labels` and, where the dataset has it, `unknown`.

    What a random transform draws depends on the seed, the epoch and the example alone, not on the number of workers or
    processes, so that an interrupted epoch can be repeated.

    Args:
        dataset: of the schema of `multilabel_features`.
        transform: uint8 image `(3, height, width)` to the tensor that the model takes.
        seed: seed of the random transforms.
        min_side: see `decode_image`.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        transform: Callable[[Tensor], Tensor],
        seed: int = 0,
        min_side: int | None = None,
    ):
        self.dataset = dataset.cast_column("image", datasets.Image(decode=False))
        self.transform = transform
        self.seed = seed
        self.min_side = min_side
        self.epoch = 0

    def set_epoch(self, epoch: int):
        """Start an epoch; call it before the loader starts its workers."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        example = self.dataset[index]
        stored = example["image"]
        name = stored["path"] or f"image {index} of the dataset"
        content = stored["path"] if stored["bytes"] is None else stored["bytes"]
        image = decode_tensor(content, name, self.min_side)
        with torch.random.fork_rng(devices=[]):
            draw = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
            torch.default_generator.manual_seed(int(draw))
            example["pixel_values"] = self.transform(image)
        del example["image"]
        return example


class MultiLabelCollator:
    """Examples to a batch: `pixel_values` `(batch, 3, height, width)` and multi-hot `labels` `(batch, labels)`.

    The labels are float32: 1 present, 0 absent, -1 unknown.

    Args:
        num_labels: number of labels C.
    """

    def __init__(self, num_labels: int):
        self.num_labels = num_labels

    def __call__(self, examples: Sequence[Mapping]) -> dict[str, Tensor]:
        """Examples of [`MultiLabelImages`] to a batch."""
        labels = torch.zeros(len(examples), self.num_labels)
        for row, example in zip(labels, examples, strict=True):
            row[example.get("unknown", [])] = -1
            row[example["labels"]] = 1
        return {"pixel_values": torch.stack([example["pixel_values"] for example in examples]), "labels": labels}
