"""Datasets of the Hub, saved `datasets` folders, Parquet with embedded images and WebDataset shards."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
from datasets.exceptions import DatasetNotFoundError, DatasetsError

from assocformer_hf.data.readers.tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLITS,
    UNKNOWN_COLUMN,
    find_column,
    read_labels,
    state_of,
    table_labels,
)
from assocformer_hf.data.schema import DataError, LabelledImages, multilabel_features

Splits = dict[str, datasets.Dataset] | dict[str, datasets.IterableDataset]


def load_anything(source: str, streaming: bool = False) -> Splits:
    """The splits of a Hub dataset, or of a folder that `datasets` itself understands.

    Folders: one of `save_to_disk`, one with Parquet files (and the README that names their splits), or one of
    WebDataset shards, `train-0000.tar` and so on.

    Args:
        source: Hub id, optionally with a configuration behind a colon (`owner/name:configuration`), or the folder.
        streaming: whether to read the examples as they are used, without a copy on the disk.

    Raises:
        DataError: if the dataset is not found or cannot be read.
    """
    path = Path(source)
    try:
        if _is_saved(path):
            saved = datasets.load_from_disk(source)
            splits = dict(saved) if isinstance(saved, dict) else {"train": saved}
            return {name: split.to_iterable_dataset() for name, split in splits.items()} if streaming else splits
        if files := shards(path, "tar"):
            features = _features_of_tar(files)
            return dict(datasets.load_dataset("webdataset", data_files=files, features=features, streaming=streaming))
        if (files := shards(path, "parquet")) and not (path / "README.md").is_file():
            return dict(datasets.load_dataset("parquet", data_files=files, streaming=streaming))
        name, _, configuration = (source, "", "") if path.exists() else source.partition(":")
        return dict(datasets.load_dataset(name, configuration or None, streaming=streaming))
    except (DatasetNotFoundError, DatasetsError, OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be loaded as a dataset ({str(error).splitlines()[0]})") from error


def _features_of_tar(files: dict[str, list[str]]) -> datasets.Features:
    """The types that `datasets` finds in the first examples; lists that are empty in all of these are of text."""
    found = next(iter(datasets.load_dataset("webdataset", data_files=files, streaming=True).values())).features

    def complete(kind):
        if isinstance(kind, dict):
            return {name: complete(inner) for name, inner in kind.items()}
        if isinstance(kind, datasets.List):
            return datasets.List(complete(kind.feature))
        return datasets.Value("string") if kind == datasets.Value("null") else kind

    return datasets.Features(complete(dict(found)))


def is_loadable(path: Path) -> bool:
    """Whether a path is one that [`load_anything`] reads."""
    return _is_saved(path) or bool(shards(path, "tar") or shards(path, "parquet"))


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def shards(path: Path, ending: str) -> dict[str, list[str]]:
    """The files of a kind by split, which their name or their folder tells; else `train`.

    A Parquet file counts only if the images are in it.
    """
    if path.is_file():
        files = [path] if path.suffix == f".{ending}" else []
    else:
        files = sorted([*path.glob(f"*.{ending}"), *path.glob(f"*/*.{ending}")])
    found: dict[str, list[str]] = {}
    for file in files:
        if ending == "tar" or holds_images(file):
            words = [*re.split(r"[-_.]", file.name.lower()), file.parent.name.lower()]
            split = next((word for word in words if word in SPLITS), "train")
            found.setdefault(split, []).append(str(file))
    return found


def holds_images(path: Path) -> bool:
    """Whether the image column of a Parquet file has the images in it, not only their paths."""
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a valid Parquet file ({str(error).splitlines()[0]})") from error
    return any(
        pyarrow.types.is_struct(field.type)
        and field.type.get_field_index("bytes") >= 0
        or pyarrow.types.is_binary(field.type)
        and field.name.lower() in IMAGE_COLUMNS
        for field in schema
    )


def image_column(dataset, given: str | None, origin: str) -> str:
    """The column of images: the given one, else the first of type Image, else one with a usual name.

    Raises:
        DataError: if there is none.
    """
    features = dataset.features
    images = (name for name, kind in features.items() if isinstance(kind, datasets.Image))
    found = given or next(images, None)
    found = find_column(list(features), found, IMAGE_COLUMNS, origin, "image")
    if found is None:
        raise DataError(
            f"{origin}: no column of images; name it as image_column; the columns are {', '.join(features)}"
        )
    return found


def images_only(dataset, given: str | None, origin: str):
    """A dataset reduced to its images, undecoded, in the column `image`."""
    column = image_column(dataset, given, origin)
    dataset = dataset.select_columns([column])
    dataset = dataset if column == "image" else dataset.rename_column(column, "image")
    return dataset.cast_column("image", datasets.Image(decode=False))


def read_dataset(
    dataset: datasets.Dataset,
    origin: str,
    image: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> LabelledImages:
    """Images and labels of a dataset with any usual column names.

    Args:
        dataset: one split.
        origin: what errors call it.
        image: the column of images; default: the first of type Image.
        label_column: the column of labels, with dots into structures (`objects.category`); default: the first usual
            name. Without any, one column for each label.
        delimiter: see [`read_table`].
        names: the label set; default: that of the column's ClassLabel, else what occurs.

    Raises:
        DataError: if a column is missing or malformed.
    """
    image = image_column(dataset, image, origin)
    flat = {name: kind for name, kind in _leaves(dataset.features) if name != image}
    found = find_column(list(flat), label_column, _usual(flat), origin, "label")
    chosen = [found] if found and not (names and set(names) <= flat.keys()) else list(flat)
    chosen += [UNKNOWN_COLUMN] if UNKNOWN_COLUMN in flat and UNKNOWN_COLUMN not in chosen else []
    columns = {}
    for name in chosen:
        top, *path = name.split(".")
        columns[name] = [_value(row, path) for row in dataset.with_format(None).select_columns([top])[:][top]]
    declared = _class_names(flat[found]) if found else None
    if declared:
        columns = {name: _to_names(values, declared) for name, values in columns.items()}
    labels, unknown, by_column = table_labels(columns, origin, image, found, delimiter, names)
    return LabelledImages(origin, images_only(dataset, image, origin), labels, unknown, declared or by_column)


def stream_dataset(
    dataset: datasets.IterableDataset,
    origin: str,
    image: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> datasets.IterableDataset:
    """The same of a stream, example by example, in the schema of `multilabel_features`.

    The label set must be given or stand in the features, and a delimiter that is not a comma must be given: a stream
    cannot be read to the end first. Each example has `unknown` where the stream has that column or one for each label.

    Raises:
        DataError: as [`read_dataset`], and if the label set is neither given nor in the features.
    """
    dataset = dataset if dataset.features is not None else dataset._resolve_features()
    image = image_column(dataset, image, origin)
    flat = {name: kind for name, kind in _leaves(dataset.features) if name != image}
    found = find_column(list(flat), label_column, _usual(flat), origin, "label")
    by_column = bool(names) and label_column is None and set(names) <= flat.keys()
    declared = _class_names(flat[found]) if found else None
    label_names = list(names or declared or ())
    if not label_names:
        raise DataError(f"{origin}: a stream cannot be searched for its labels first; give them as label_names")
    if not by_column and found is None:
        raise DataError(f"{origin}: no labels; name their column as label_column; the columns are {', '.join(flat)}")
    index = {name: i for i, name in enumerate(label_names)}
    unknown = by_column or UNKNOWN_COLUMN in flat

    def indices(example: dict, column: str) -> list[int]:
        values = [_value(example[column.split(".")[0]], column.split(".")[1:])]
        if declared:
            values = _to_names(values, declared)
        (row,) = read_labels(values, f"{origin}: column {column!r}", delimiter or ",", label_names)
        if not index.keys() >= set(row):
            raise DataError(f"{origin}: unknown label in {row}; expected one of {', '.join(label_names)}")
        return sorted({index[name] for name in row})

    def convert(example: dict) -> dict:
        if by_column:
            states = [state_of(example[name]) for name in label_names]
            if None in states:
                wrong = label_names[states.index(None)]
                raise DataError(f"{origin}: column {wrong!r}: {example[wrong]!r} is not 1, 0, -1 or nothing")
            row = {"labels": [i for i, state in enumerate(states) if state == 1]}
            row["unknown"] = [i for i, state in enumerate(states) if state == -1]
        else:
            row = {"labels": indices(example, found)}
            if unknown:
                row["unknown"] = sorted(set(indices(example, UNKNOWN_COLUMN)) - set(row["labels"]))
        return {"image": example[image], **row}

    features = multilabel_features(label_names, unknown)
    others = [name for name in dataset.features if name not in features]
    undecoded = dataset.cast_column(image, datasets.Image(decode=False))
    return undecoded.map(convert, remove_columns=others, features=features)


def _leaves(features, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The columns with their types; those of structures and of lists of structures with dotted names."""
    for name, kind in features.items():
        inner = kind.feature if isinstance(kind, datasets.List) else kind
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def _usual(columns: Sequence[str]) -> list[str]:
    """The usual names of label columns, those within structures last; then the fields of WebDataset."""
    nested = [name.lower() for name in columns if "." in name and name.lower().rpartition(".")[2] in LABEL_COLUMNS]
    return [*LABEL_COLUMNS, *nested, "cls", "txt"]


def _class_names(kind) -> list[str] | None:
    """The names of a ClassLabel, alone or in lists."""
    while isinstance(kind, datasets.List):
        kind = kind.feature
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else None


def _value(value, path: list[str]):
    """What stands at a dotted name, through lists of structures."""
    for key in path:
        if isinstance(value, list):
            value = [entry[key] for entry in value if entry and entry[key] is not None]
        elif value is not None:
            value = value[key]
    if isinstance(value, list) and any(isinstance(entry, list) for entry in value):
        value = [inner for entry in value for inner in entry]
    return value


def _to_names(values: list, names: list[str]) -> list[list[str]]:
    """Class indices as names; -1 is a class that is not known, and none."""
    rows = [value if isinstance(value, list) else [] if value is None else [value] for value in values]
    return [[names[i] if isinstance(i, int) else i for i in row if i != -1] for row in rows]
