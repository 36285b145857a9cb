"""The forms of datasets on disk: how each is recognised and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.data.readers.coco import find_coco, read_coco
from assocformer_hf.data.readers.exports import (
    find_cvat,
    find_label_studio,
    find_yolo,
    read_cvat,
    read_label_studio,
    read_yolo,
)
from assocformer_hf.data.readers.hub import is_loadable, load_anything, read_dataset
from assocformer_hf.data.readers.tables import find_tables, read_table
from assocformer_hf.data.readers.voc import find_voc, read_voc
from assocformer_hf.data.schema import LabelledImages

Found = Mapping[str | None, object]


@dataclass
class SourceOptions:
    """How a dataset of one's own is read, where that is not found by itself; options of the command line too."""

    form: str | None = field(
        default=None,
        metadata={"help": "table, coco, voc, yolo, label_studio, cvat or hub. Default: found by what is there."},
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


@dataclass
class Form:
    """A form of dataset on disk.

    Attributes:
        looks_for: what it is recognised by, for people.
        find: gives what is found at a path, by split, nothing where the form does not fit.
        read: reads what was found of one split.
    """

    looks_for: str
    find: Callable[[Path, Path | None, SourceOptions], Found]
    read: Callable[[object, Path | None, SourceOptions], LabelledImages]


def _at_once(find: Callable[[Path], Path | None], read: Callable[[Path, Path | None], Mapping | LabelledImages]):
    """The two functions of a form whose file holds all the splits."""

    def find_splits(path: Path, data_dir: Path | None, options: SourceOptions) -> Found:
        file = find(path)
        found = read(file, data_dir) if file else {}
        return {None: found} if isinstance(found, LabelledImages) else found

    return find_splits, lambda found, data_dir, options: found


def _find_in_tables(path: Path, data_dir: Path | None, options: SourceOptions) -> Found:
    found: dict[str | None, LabelledImages] = {}
    for split, file in find_tables(path).items():
        columns = (options.image_column, options.label_column, options.delimiter, options.label_names)
        for own, part in read_table(file, data_dir, *columns).items():
            found[own or split] = part
    return found


def find_datasets(source: str) -> Found:
    """The splits that `datasets` finds, with what errors call them."""
    return {name: (split, f"{source}, split {name}") for name, split in load_anything(source).items()}


def _read_dataset(found: tuple, data_dir: Path | None, options: SourceOptions) -> LabelledImages:
    columns = (options.image_column, options.label_column, options.delimiter, options.label_names)
    return read_dataset(*found, *columns)


FORMS = {
    "hub": Form(
        "a folder of `datasets` (dataset_dict.json), Parquet files with images in them, tar shards",
        lambda path, data_dir, options: find_datasets(str(path)) if is_loadable(path) else {},
        _read_dataset,
    ),
    "table": Form(
        "metadata.csv, .tsv, .jsonl or .parquet beside the images, train.csv and such, one table",
        _find_in_tables,
        lambda found, data_dir, options: found,
    ),
    "yolo": Form("data.yaml with names", *_at_once(find_yolo, read_yolo)),
    "coco": Form(
        "annotations/*.json, _annotations.coco.json or a JSON file in COCO's format",
        lambda path, data_dir, options: find_coco(path),
        lambda found, data_dir, options: read_coco(found, data_dir and Path(data_dir).resolve()),
    ),
    "label_studio": Form("a JSON file of Label Studio tasks", *_at_once(find_label_studio, read_label_studio)),
    "cvat": Form("annotations.xml of CVAT for images", *_at_once(find_cvat, read_cvat)),
    "voc": Form(
        "ImageSets/Main, Annotations/*.xml or XML files in VOC's format beside the images",
        lambda path, data_dir, options: find_voc(path),
        lambda found, data_dir, options: read_voc(found),
    ),
}
