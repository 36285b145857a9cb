"""What tells one dataset from another, and one image from another, wherever they lie: digests of their content."""

import filecmp
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import BinaryIO

import datasets
import numpy as np
import pyarrow

from assocformer_hf.progress import progress_bar

WHOLE = 1 << 16  # bytes; of larger images, so many are looked at
BLOCKS = 8
BATCH = 64  # images whose bytes are in memory at once
THREADS = 8  # reading small pieces of many files is waiting, mostly on network disks


def image_digests(dataset: datasets.Dataset) -> np.ndarray:
    """A number for each image, the same for the same content, whether it is a file, moved, renamed, or embedded.

    It is taken from the size and the bytes: all of them up to 64 KiB, and of larger images eight blocks of 8 KiB from
    the first to the last, so that a million files can be told apart without reading them whole. A file that cannot be
    opened counts by its name.

    Args:
        dataset: with a column `image`, decoded when read or not.

    Returns:
        `(images,)`, uint64, in the dataset's order. Two different images have the same number with a probability of
        2^-64: among a million images the odds that any two have are 3 in 100 million. Larger images that differ
        only between the blocks, as uncompressed ones may, have the same number.
    """
    images = dataset.select_columns("image").with_format("arrow")
    digests = np.empty(len(dataset), np.uint64)
    start = 0
    with ThreadPoolExecutor(THREADS) as pool:
        batches = images.iter(BATCH)
        quick = len(dataset) < 100_000
        for table in progress_bar(batches, not quick, desc="identity", total=-(-len(dataset) // BATCH), unit="batches"):
            column = table.column("image").combine_chunks()
            content, paths = column.field("bytes"), column.field("path").to_pylist()
            embedded = (content[i].as_buffer() if content[i].is_valid else None for i in range(len(paths)))
            found = list(pool.map(_digest, embedded, paths))
            digests[start : start + len(found)] = found
            start += len(found)
    return digests


def first_copies(paths: Sequence[str]) -> dict[str, str]:
    """For files that have the content of an earlier one, byte by byte, that one.

    Args:
        paths: of files; one that is empty or cannot be opened is like no other.
    """
    size_of = {path: size for path in paths if os.path.isfile(path) and (size := os.path.getsize(path))}
    count_of = Counter(size_of.values())
    candidates = [path for path, size in size_of.items() if count_of[size] > 1]
    with ThreadPoolExecutor(THREADS) as pool:
        digests = list(pool.map(_digest, [None] * len(candidates), candidates))
    first_of, found = {}, {}
    for path, digest in zip(candidates, digests, strict=True):
        first = first_of.setdefault(digest, path)
        if first != path and filecmp.cmp(first, path, shallow=False):
            found[path] = first
    return found


def dataset_identity(dataset: datasets.Dataset, digests: np.ndarray | None = None) -> str:
    """A digest of the images in their order, with their file names, labels, unknown labels, and the label set.

    Args:
        dataset: with a column `image`, and in the schema of `multilabel_features` where it has labels.
        digests: of its images, where [`image_digests`] was called already.

    Returns:
        64 hexadecimal digits; the same after the folder of the images was moved.
    """
    digest = hashlib.sha256((image_digests(dataset) if digests is None else digests).astype("<u8").tobytes())
    columns = [name for name in ("labels", "unknown") if name in dataset.features]
    if columns:
        digest.update(json.dumps(dataset.features["labels"].feature.names).encode())
    for rows in _rows(dataset, columns):
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def _rows(dataset: datasets.Dataset, columns: list[str]) -> Iterator[list]:
    """Batches of file names and label indices."""
    undecoded = dataset.select_columns(["image", *columns]).cast_column("image", datasets.Image(decode=False))
    for table in undecoded.with_format("arrow").iter(BATCH):
        paths = table.column("image").combine_chunks().field("path").to_pylist()
        names = [path and PurePath(path).name for path in paths]
        yield [names, *(table.column(name).to_pylist() for name in columns)]


def _digest(content: pyarrow.Buffer | None, path: str | None) -> int:
    try:
        with open(path, "rb", buffering=0) if content is None else pyarrow.BufferReader(content) as file:
            sample = _sample(file)
    except (OSError, ValueError, TypeError):  # missing, a URL, a name with a zero byte, or none at all
        sample = repr(path).encode()
    return int.from_bytes(hashlib.blake2b(sample, digest_size=8).digest(), "little")


def _sample(file: BinaryIO) -> bytes:
    """The size, and all bytes or eight blocks of them."""
    size, block = file.seek(0, 2), WHOLE // BLOCKS
    starts = [i * (size - block) // (BLOCKS - 1) for i in range(BLOCKS)] if size > WHOLE else [0]
    parts = []
    for start in starts:
        file.seek(start)
        parts.append(file.read(block if size > WHOLE else WHOLE))
    return b"".join([size.to_bytes(8, "little"), *parts])
