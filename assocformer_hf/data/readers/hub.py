"""Datasets of the Hub."""

import re
import tarfile
from functools import partial
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from pyarrow import ArrowException

from assocformer_hf.data.readers.features import read_dataset
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.schema import DataError
from assocformer_hf.data.streams import Stream
from assocformer_hf.saved_files import is_hub_id
from assocformer_hf.wording import first_line

# What `datasets` lets out of the libraries beneath it, for files that are not what their names say.
UNREADABLE = (
    DatasetNotFoundError, DatasetsError, ArrowException, OSError, ValueError, TypeError, KeyError, tarfile.TarError,
)  # fmt: skip


CONFIGURATION = re.compile(r"[\w.-]+")
CONFIGURATIONS = re.compile(r"available configs: \[(.+)\]")  # what `datasets` says where one must be chosen


class HubReader(Reader):
    """A dataset of the Hub by its id, `owner/name` or `owner/name:configuration`.

    `folder:configuration` is one of several configurations of a copy of it in a folder.
    """

    form = "hub"
    looks_for = "a Hub id such as owner/name or owner/name:configuration"
    reads = str

    def matches(self, source: str) -> Match:
        name, colon, configuration = source.partition(":")
        named = not colon or CONFIGURATION.fullmatch(configuration)
        copied = colon and (Path(name) / "README.md").is_file()
        return Match.SURE if named and (copied or is_hub_id(name)) else Match.NO

    def read(self, source: str) -> Splits:
        found = load_from_hub(source)
        return {
            name: partial(read_dataset, split, f"{source}, split {name}", self.options) for name, split in found.items()
        }

    def stream(self, source: str) -> dict[str, Stream]:
        """The splits, read as they are used."""
        name, _, configuration = source.partition(":")
        return open_streams(source, name, configuration or None)


def load_from_hub(source: str) -> dict:
    """The splits of a dataset.

    Raises:
        DataError: if it is not found or cannot be read.
    """
    name, _, configuration = source.partition(":")
    what = "cannot be loaded as a dataset"
    if not Path(name).is_dir():
        what = f"no such file or folder here, and {what} of the Hub"
    return loaded(source, lambda: datasets.load_dataset(name, configuration or None), what)


def open_streams(source, *arguments, **options) -> dict[str, Stream]:
    """The splits of what `datasets.load_dataset` would load with these arguments, read as they are used.

    Raises:
        DataError: if it is not found or cannot be read.
    """

    def load() -> dict[str, Stream]:
        builder = datasets.load_dataset_builder(*arguments, **options)
        files = builder.config.data_files or {}
        streams = builder.as_streaming_dataset()
        return {str(name): Stream(stream, tuple(map(str, files.get(name, ())))) for name, stream in streams.items()}

    return loaded(source, load)


def loaded(source, load, what: str = "cannot be loaded as a dataset") -> dict:
    """What a function of `datasets` loads, by split.

    Args:
        source: what an error names.
        load: the function.
        what: the error.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        found = load()
    except UNREADABLE as error:
        cause = error
        if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
            cause = error.__cause__  # which says what it is about
        if several := CONFIGURATIONS.search(str(cause)):
            names = [name.strip("' ") for name in several[1].split(",")]
            raise DataError(
                f"{source}: has the configurations {', '.join(names)}; write {source}:{names[0]}"
            ) from error
        raise DataError(f"{source}: {what} ({first_line(cause)})") from error
    return dict(found) if isinstance(found, dict) else {None: found}
