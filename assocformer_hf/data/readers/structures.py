"""Structures in columns, such as the objects of each image: their entries as columns with dotted names."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from assocformer_hf.data.readers.classes import LISTS, to_names
from assocformer_hf.data.readers.label_cells import NUMBER
from assocformer_hf.wording import counted

BOX_COLUMNS = ("bbox", "bboxes", "box", "boxes")  # beside which stand the classes of objects


def leaves(features: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The columns with their types; those of structures and of lists of structures with dotted names."""
    for name, kind in features.items():
        inner = kind.feature if isinstance(kind, LISTS) else kind
        if isinstance(inner, dict):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def lists_of_structures(features: Mapping) -> list[str]:
    """The columns that are lists of structures by their types."""
    return [name for name, kind in features.items() if isinstance(kind, LISTS) and isinstance(kind.feature, dict)]


def split_path(name: str, top_level: Container[str]) -> tuple[str, list[str]]:
    """A dotted name as the column that it begins with, which may have dots too, and the rest of the way."""
    parts = name.split(".")
    length = next(length for length in range(len(parts), 0, -1) if ".".join(parts[:length]) in top_level)
    return ".".join(parts[:length]), parts[length:]


def value_at(value: Any, path: Sequence[str]) -> Any:
    """What stands at a dotted name, through lists of structures; None where nothing does."""
    for key in path:
        if isinstance(value, list):
            value = [entry[key] for entry in value if entry and entry.get(key) is not None]
        elif value is not None:
            value = value.get(key)
    if isinstance(value, list) and any(isinstance(entry, list) for entry in value):
        value = [inner for entry in value for inner in entry]
    return value


def with_entries(columns: Mapping[str, list]) -> dict[str, list]:
    """Columns of structures, or of lists of these, as one column for each entry; stored images as they are."""
    found = {}
    for name, values in columns.items():
        keys = _keys(values)
        if keys:
            entries = {key: [value_at(value, [key]) for value in values] for key in keys}
            found |= {f"{name}.{key}": column for key, column in with_entries(entries).items()}
        else:
            found[name] = values
    return found


def _keys(values: Sequence) -> list[str]:
    """The keys of the structures that a column holds; none where it holds anything else, or images."""
    keys: dict = {}
    for value in values:
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                keys |= dict.fromkeys(entry)
            elif entry is not None:
                return []
    return [] if keys.keys() <= {"bytes", "path"} or not all(isinstance(key, str) for key in keys) else list(keys)


def are_of_objects(name: str, columns: Container[str], lists: Iterable[str]) -> bool:
    """Whether a column has the classes of objects, of which an image may have several, and never 1 and 0 for each.

    Args:
        name: with dots where it is an entry of a structure.
        columns: the names of all, among which those of boxes tell.
        lists: the columns that are lists of structures.
    """
    beside = name.rpartition(".")[0]
    has_boxes = bool(beside) and any(f"{beside}.{box}" in columns for box in BOX_COLUMNS)
    return has_boxes or any(name.startswith(f"{column}.") for column in lists)


def object_classes(values: Sequence, names: Sequence[str] | None, origin: str) -> list:
    """The classes of the objects of each image, each once.

    Args:
        values: lists of names or of numbers, or None.
        names: the label set; numbers are indices into it, unless its names are numbers.
        origin: what errors call the column.

    Raises:
        DataError: if a number has no name.
    """
    rows = [distinct(value) for value in values]
    entries = [entry for row in rows if isinstance(row, list) for entry in row]
    if not entries or not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in entries):
        return rows
    if names and not all(map(NUMBER.fullmatch, names)):
        return to_names(rows, list(names), origin)
    return [[str(entry) for entry in row] if isinstance(row, list) else row for row in rows]


def without_entry(columns: Mapping[str, list], name: str, top_level: Container[str]) -> list[str]:
    """What to note where images lack the structure that their labels stand in."""
    silent = 0 if name in top_level else sum(value is None for value in columns.get(name, ()))
    return [f"{counted(silent, 'image')} without {name}, and so without any label"] if silent else []


def distinct(value: Any) -> Any:
    """The classes of several objects, each once."""
    return list(dict.fromkeys(value)) if isinstance(value, list) else value
