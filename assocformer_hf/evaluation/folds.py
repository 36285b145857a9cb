"""Cross-validation of what is fitted to scores."""

from collections.abc import Iterator

import numpy as np

from assocformer_hf.data.schema import DataError


def folds(images: int, count: int = 5, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each fold the images to fit to and those held out; every image is held out once.

    Raises:
        DataError: if there are fewer images than folds, or fewer than two folds.
    """
    if not 2 <= count <= images:
        raise DataError(
            f"{images} images cannot be divided into {count} folds; take 2 to {images}, or give more images: "
            "--split all takes every one of a dataset"
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(images), count)
    for held_out in parts:
        yield np.setdiff1d(np.arange(images), held_out), np.sort(held_out)
