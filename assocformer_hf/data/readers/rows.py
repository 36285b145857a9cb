"""Rows of images and labels, of tables and of objects in memory alike: their columns, their splits, their images."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets

from assocformer_hf.data.readers.classes import with_class_names
from assocformer_hf.data.readers.labels import (
    LABEL_COLUMNS,
    UNKNOWN_COLUMN,
    TableLabels,
    declared_names,
    entries_called,
    find_column,
    refuse_states_of_rows,
    table_labels,
)
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.readers.states import is_empty, state_of
from assocformer_hf.data.readers.structures import are_of_objects, leaves, object_classes, with_entries, without_entry
from assocformer_hf.data.schema import UNUSED_COLUMNS, DataError, LabelledImages
from assocformer_hf.data.split_names import split_of
from assocformer_hf.wording import counted

IMAGE_COLUMNS = (
    "file_name", "image", "image_path", "filename", "file", "path", "img", "image_file", "filepath", "fname",
    "image_name",
)  # fmt: skip
ID_COLUMNS = ("image_id", "id")  # the image column where there is no other
SPLIT_COLUMN = "split"
GUESS_COLUMN = "is_guess"  # of tables that `predict` writes
VALID_COLUMN = "is_valid"  # fastai's: true for the images of the validation split
Images = list[str] | datasets.Dataset  # paths, or a dataset that holds the images


def labelled_splits(
    columns: dict[str, list],
    features: Mapping,
    origin: str | Path,
    options: SourceOptions,
    locate: Callable[[list], tuple[Images, list[str], Path | None]],
    split: str | None = None,
    labels: bool = True,
) -> dict[str | None, LabelledImages]:
    """The images and labels of rows, by split: that of a column `split` or `is_valid`, or of the images' folders.

    Args:
        columns: by name, each as long as the others.
        features: what `datasets` knows of their types, such as the names of classes.
        origin: what errors call them.
        options: the columns, the delimiter, the label set.
        locate: finds the images that the image column names, notes where, and gives the folder that their paths are
            relative to, None where they are relative to none.
        split: which all rows are of where no column says it; then folders say nothing.
        labels: whether to read the labels; without, the images have none.

    Returns:
        The images by split, None for rows that name none. An image may have several rows, each with some of its labels.

    Raises:
        DataError: if there is no column of images or labels, no row, or a row that cannot be read.
    """
    lists = [name for name, values in columns.items() if any(isinstance(value, list) for value in values)]
    top_level, columns = columns.keys(), with_entries(columns)
    features = dict(leaves(features))
    columns = with_class_names(columns, features, origin)
    image_column = find_column(list(columns), options.image_column, IMAGE_COLUMNS + ID_COLUMNS, origin, "image")
    if image_column is None:
        raise DataError(
            f"{origin}: no column of images; expected one of {', '.join(IMAGE_COLUMNS)}, or image_column; the columns "
            f"are {', '.join(columns)}"
        )
    values = columns[image_column]
    if not values:
        raise DataError(f"{origin}: no rows")
    images, notes, root = locate(values)
    split_column, split_of_row = row_splits(columns, [name for name in columns if name != image_column], origin)
    if split_column is None:
        by_folder = split is None and labels and isinstance(images, list)
        split_of_row = folder_splits(images, root, origin) if by_folder else [None] * len(values)
    others = [name for name in columns if name not in (image_column, split_column)]
    found = TableLabels([()] * len(values), [()] * len(values), None)
    if labels:
        # Of what stands in structures, only what names labels is one: the flags of objects are none of the image.
        named = {options.label_column, *(options.label_names or ())}
        entries = entries_called(columns, (*LABEL_COLUMNS, UNKNOWN_COLUMN))
        candidates = [name for name in others if name in top_level | named or name.lower() in entries]
        for name in candidates:
            if are_of_objects(name, columns, lists):
                columns[name] = object_classes(columns[name], options.label_names, f"{origin}: column {name!r}")
        found = table_labels(columns, origin, candidates, options.label_column, options.delimiter, options.label_names)
        found.ignored += [name for name in others if name not in candidates]
        notes = [*notes, *without_entry(columns, found.columns["labels"], top_level), *_without_guesses(found, columns)]
        if found.names is None and isinstance(images, list) and len(set(images)) < len(images):
            refuse_states_of_rows(columns, images, found, origin)
    rows_of: dict[str | None, list[int]] = {}
    for row, own in enumerate(split_of_row):
        rows_of.setdefault(own, []).append(row)
    splits = {}
    for own, rows in rows_of.items():
        names = declared_names(found, features, options.label_names)
        part = splits[own] = LabelledImages(str(origin), notes=list(notes), names=names)
        part.columns = {"image": image_column} | found.columns | ({"split": split_column} if split_column else {})
        part.left_out |= dict.fromkeys(map(repr, found.ignored), UNUSED_COLUMNS)
        if isinstance(images, datasets.Dataset):
            part.images = images.select(rows)
            part.labels, part.unknown = [found.present[row] for row in rows], [found.unknown[row] for row in rows]
        else:
            _add_files(part, rows, values, images, found)
    return splits


def _without_guesses(found: TableLabels, columns: Mapping[str, list]) -> list[str]:
    """Takes the labels away that no threshold was reached for: the best guesses of a table of the `Tagger`."""
    guessed = columns.get(GUESS_COLUMN, ()) if GUESS_COLUMN in found.ignored else ()
    rows = [i for i, value in enumerate(guessed) if state_of(value) == 1]
    if not rows:
        return []
    found.present = list(found.present)
    for row in rows:
        found.present[row] = ()
    return [f"{counted(len(rows), 'image has', 'images have')} no label, as {GUESS_COLUMN} says"]


def _add_files(part: LabelledImages, rows: Sequence[int], cells: Sequence, images: Sequence[str], found: TableLabels):
    """Adds the images of some rows; rows of one image become one, unless each says all of its labels.

    Raises:
        DataError: if a row with a column for each label has the image of an earlier one.
    """
    place_of: dict[str, int] = {}
    for row in rows:
        image, present, unknown = images[row], found.present[row], found.unknown[row]
        place = place_of.setdefault(image, len(part.images))
        if place == len(part.images):
            part.images.append(image)
            part.labels.append(present)
            part.unknown.append(unknown)
        elif found.names:
            raise DataError(f"{part.origin}: row {row + 1}: {cells[row]} is in an earlier row too; keep one of them")
        else:
            part.labels[place] = [*part.labels[place], *present]
            part.unknown[place] = [n for n in [*part.unknown[place], *unknown] if n not in part.labels[place]]


def folder_splits(images: Sequence[str], root: Path | None, origin: str | Path) -> list[str | None]:
    """The names of the folders of splits that image files lie in, the uppermost; None for all where not all do.

    Args:
        images: the absolute paths of the files.
        root: below which folders count; where not all lie in it, or it is None, below the folder that they share.
        origin: what errors call them.

    Raises:
        DataError: if the folders of some are called as different splits, and those of others as none.
    """
    shared = Path(os.path.commonpath(list(map(os.path.dirname, images))))
    root = root if root is not None and shared.is_relative_to(root) else shared
    folders = [next(filter(split_of, Path(image).relative_to(root).parent.parts), None) for image in images]
    if None not in folders:
        return folders
    named = {folder for folder in folders if folder is not None}
    if len(set(map(split_of, named))) > 1:
        other = images[folders.index(None)]
        missing = "" if os.path.isfile(other) else ", which is missing"
        raise DataError(
            f"{origin}: images lie in folders of splits ({', '.join(sorted(named))}) and others do not, such as "
            f"{os.path.relpath(other, root)}{missing}; put each into the folder of its split, or give a table with a "
            "column split"
        )
    return [None] * len(images)


def divided_by_folder(found: LabelledImages, name: str | None = None) -> dict[str | None, LabelledImages]:
    """The images of a file that names no splits, divided by the split folders that they lie in, such as `train`.

    Args:
        found: the images, which are files.
        name: of the one split of all images, where they do not lie in split folders.

    Returns:
        The images of each split, by the name of its folder.

    Raises:
        DataError: as [`folder_splits`].
    """
    rows_of: dict[str | None, list[int]] = {}
    for row, split in enumerate(folder_splits(found.images, None, found.origin) if found.images else ()):
        rows_of.setdefault(split or name, []).append(row)
    return {split: found.select(rows) for split, rows in rows_of.items()}


def row_splits(columns: dict[str, list], names: Sequence[str], origin) -> tuple[str | None, list[str | None]]:
    """The column that says which split each row is of, and what it says; None where there is none.

    Raises:
        DataError: if two columns may say it, or `is_valid` is not true or false.
    """
    column = find_column(names, None, (SPLIT_COLUMN, VALID_COLUMN), origin, SPLIT_COLUMN, alternatives=False)
    if column is None:
        return None, []
    values = columns[column]
    if column.lower() == SPLIT_COLUMN:
        wrong = next((i for i, value in enumerate(values) if isinstance(value, (list, dict))), None)
        if wrong is not None:
            raise DataError(
                f"{origin}: row {wrong + 1}, column {column!r}: {values[wrong]!r:.80} is no name of a split"
            )
        name_of = {value: None if is_empty(value) else str(value).strip() for value in set(values)}
        return column, [name_of[value] for value in values]
    states = [state_of(value) for value in values]
    if wrong := [i for i, state in enumerate(states) if state not in (0, 1)]:
        raise DataError(f"{origin}: row {wrong[0] + 1}, column {column!r}: {values[wrong[0]]!r} is not true or false")
    return column, ["validation" if state else "train" for state in states]
