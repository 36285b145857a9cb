"""Datasets that are read as they are used, for those larger than the disk: their shards, and how much each holds."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

import datasets
import pyarrow.parquet
from datasets.fingerprint import Hasher
from datasets.utils.file_utils import xopen

from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError
from assocformer_hf.progress import progress_bar


class Stream(NamedTuple):
    """A split as it is read.

    Attributes:
        dataset: its examples, in as many shards as it has files.
        files: of its shards, paths or URLs; none where it is not in files.
    """

    dataset: datasets.IterableDataset
    files: Sequence[str]


class StreamedDataset(datasets.IterableDatasetDict):
    """Splits in the schema of `multilabel_features` that are read as they are used.

    Attributes:
        files: for each split the files of its shards, paths or URLs.
        options: how they are read.
    """

    files: dict[str, Sequence[str]]
    options: SourceOptions


def shard_rows(stream: datasets.IterableDataset, files: Sequence[str]) -> list[int]:
    """How many examples each shard holds: Parquet files say so, others are read through once.

    Args:
        stream: the split.
        files: of its shards.

    Raises:
        DataError: if the split is not in shards.
    """
    if len(files) != stream.num_shards:
        raise DataError(
            "only Parquet and tar shards can be trained on as a stream; make some by `assocformer prepare`, or leave "
            "out --streaming"
        )
    files = progress_bar(files, len(files) >= 100, desc="counting", unit="shards")
    return [_rows(stream, shard, file) for shard, file in enumerate(files)]


def _rows(stream: datasets.IterableDataset, shard: int, file: str) -> int:
    if file.endswith(".parquet"):
        with xopen(file, "rb") as content:
            return pyarrow.parquet.ParquetFile(content).metadata.num_rows
    return sum(1 for _ in undecoded(stream).shard(stream.num_shards, shard))


def on_disk(stream: datasets.IterableDataset, files: Sequence[str], options: SourceOptions) -> datasets.Dataset:
    """A split as a file in the cache of `datasets`, where it is found again while its shards are the same.

    Args:
        stream: the split; it has to fit.
        files: of its shards.
        options: how it is read.
    """
    versions = [(file, os.stat(file).st_mtime_ns, os.path.getsize(file)) for file in files if os.path.isfile(file)]
    kept = datasets.Dataset.from_generator(
        undecoded(stream).__iter__,
        features=undecoded(stream).features,
        fingerprint=Hasher.hash([list(files), versions, stream.features.to_dict(), asdict(options)]),
        split=stream.split,
    )
    return kept.cast_column("image", datasets.Image())


def undecoded(stream: datasets.IterableDataset) -> datasets.IterableDataset:
    """The split with its images as they are stored."""
    return stream.cast_column("image", datasets.Image(decode=False))


def read_shard(stream: datasets.IterableDataset, shard: int, start: int, rows: int, file: str) -> Iterator[dict]:
    """The examples of a shard, undecoded, from one on.

    Args:
        stream: the split.
        shard: its number.
        start: examples that are passed over.
        rows: that it has to hold.
        file: what errors call it.

    Raises:
        DataError: at its end, if it has not as many examples as were counted.
    """
    found = start
    for example in undecoded(stream).shard(stream.num_shards, shard).skip(start):
        found += 1
        if found > rows:
            break
        yield example
    if found != rows:
        raise DataError(
            f"{file}: no longer has the {rows} examples that were counted in it; it was changed during the run"
        )
