"""What a reader of a form of dataset is."""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import LabelledImages
from assocformer_hf.data.streams import Stream

# For each of a source's own splits what reads it; None is the name of images that belong to no split.
Splits = dict[str | None, Callable[[], LabelledImages]]


class Match(IntEnum):
    """How well a form fits what is there."""

    NO = 0
    MAYBE = 1
    SURE = 2


class Reader:
    """Reads one form of dataset; every subclass in this package is found by the registry.

    Attributes:
        form: its name, a value of `SourceOptions.form`.
        looks_for: what it is recognised by, for people.
        reads: the type of its sources: a path that exists, an id (`str`), or objects.
        options: how to read.
        data_dir: the folder that image paths are relative to, absolute; None where it is found.
        left_out: what [`read`] did not use, and why.
    """

    form: ClassVar[str]
    looks_for: ClassVar[str]
    reads: ClassVar[type | tuple[type, ...]] = Path

    def __init__(self, options: SourceOptions, data_dir: str | Path | None = None):
        self.options = options
        self.data_dir = Path(data_dir).resolve() if data_dir is not None else None
        self.left_out: dict[str, str] = {}

    def matches(self, source) -> Match:
        """How well the form fits; looks at names and heads of files, and raises nothing."""
        raise NotImplementedError

    def read(self, source) -> Splits:
        """The splits of a source that fits.

        Raises:
            DataError: if it is malformed, or has two things where one is expected; reading a split raises it too.
        """
        raise NotImplementedError

    def stream(self, source) -> dict[str, Stream] | None:
        """The splits of a source that fits, read as they are used; None if the form cannot be read so."""
        return None
