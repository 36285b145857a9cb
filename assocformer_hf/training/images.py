"""The images of a run: augmented to train on, as the model takes them to evaluate on, and to look at."""

from collections.abc import Callable, Mapping
from typing import Any

import datasets
from PIL import Image
from torch import Tensor

from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.images.streaming import StreamedImages
from assocformer_hf.data.images.transforms import (
    create_image_processor,
    evaluation_transform,
    pixel_scaling,
    training_transform,
)
from assocformer_hf.data.main_process import from_main_process
from assocformer_hf.data.streams import StreamedDataset, shard_rows
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.training.arguments import DataArguments, default_recipe, training_arguments


def augmentation(args: DataArguments, processor: AssocFormerImageProcessor) -> Callable[[Image.Image], Tensor]:
    """What a run does to its training images."""
    return training_transform(
        processor, args.cutout, args.randaugment_ops, args.randaugment_magnitude, args.horizontal_flip
    )


def create_images(
    splits: Mapping[str, datasets.Dataset], processor: AssocFormerImageProcessor, args: DataArguments, seed: int
) -> tuple[MultiLabelImages, MultiLabelImages]:
    """The images to train on, augmented, and those to evaluate on, as the model takes them."""
    augment = augmentation(args, processor)
    scale = pixel_scaling(processor)
    options: dict[str, Any] = {"seed": seed, "bad_images": args.bad_images, "scale": scale}
    if isinstance(splits, StreamedDataset):
        stream, files = splits["train"], splits.files["train"]
        rows = from_main_process(lambda: shard_rows(stream, files))
        train_images = StreamedImages(stream, files, rows, augment, **options, buffer=args.shuffle_buffer)
    else:
        train_images = MultiLabelImages(splits["train"], augment, **options)
    eval_images = MultiLabelImages(splits["validation"], evaluation_transform(processor), bad_images=args.bad_images)
    return train_images, eval_images


def augmented_for_check(images: datasets.Dataset, dataset: str) -> tuple[MultiLabelImages, str]:
    """The images of a training split as the dataset's usual recipe shows them to the model, uint8, and what it does.

    Args:
        images: the training split.
        dataset: its name or path, which names the recipe.
    """
    model_args, data_args, recipe, *_ = training_arguments(dataset=dataset)
    size = model_args.image_size
    augment = augmentation(data_args, create_image_processor(size))
    steps = [f"the recipe {default_recipe(dataset)} makes them {size}×{size} pixels"]
    if data_args.horizontal_flip:
        steps.append(f"mirrors {100 * data_args.horizontal_flip:.0f}% of them")
    if data_args.cutout:
        steps.append(f"hides a square of {100 * data_args.cutout:.0f}% of the side")
    if data_args.randaugment_ops:
        strength = data_args.randaugment_magnitude
        steps.append(f"and changes them {data_args.randaugment_ops}× by RandAugment (strength {strength} of 30)")
    return MultiLabelImages(images, augment, recipe.seed, bad_images="skip"), ", ".join(steps)


def first_pictures(dataset: datasets.Dataset, count: int, bad_images: str = "error") -> list[Image.Image]:
    """The first images of a dataset, upright and in RGB."""
    images = MultiLabelImages(dataset, lambda image: image, bad_images=bad_images)
    return [images[i]["pixel_values"] for i in range(min(count, len(images)))]
