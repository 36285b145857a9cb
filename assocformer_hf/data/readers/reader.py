"""What a reader of a form of dataset is, and the options that all of them share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from assocformer_hf.data.schema import LabelledImages

# For each of a source's own splits what reads it; None is the name of images that belong to no split.
Splits = dict[str | None, Callable[[], LabelledImages]]


@dataclass
class SourceOptions:
    """How a dataset of one's own is read, where that is not found by itself; options of the command line too."""

    form: str | None = field(
        default=None,
        metadata={
            "help": "table, imagefolder, coco, voc, yolo, label_studio, cvat, shards, hub or memory. Default: found by "
            "what is there."
        },
    )
    image_column: str | None = field(default=None, metadata={"help": "Column of the images. Default: the usual names."})
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels, such as objects.category. Default: the usual names."}
    )
    delimiter: str | None = field(default=None, metadata={"help": "What divides labels in a text."})
    label_names: list[str] | None = field(
        default=None, metadata={"help": "The label set, in order. Default: what the dataset declares or holds."}
    )
    validation_share: float = field(
        default=0.2, metadata={"help": "Share of the images held out where the dataset has no validation split."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the choice of the images held out."})


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
