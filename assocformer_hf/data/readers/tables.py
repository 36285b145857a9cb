"""Tables of images and labels: CSV, TSV, JSON Lines and Parquet, with labels in any of their usual forms."""

import ast
import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assocformer_hf.data.schema import DataError, LabelledImages, image_file, read_text, require_files

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
IMAGE_COLUMNS = ("file_name", "image", "image_path", "filename", "file", "path", "img", "image_file", "filepath")
LABEL_COLUMNS = ("labels", "label", "tags", "tag", "categories", "category", "classes", "class")
UNKNOWN_COLUMN = "unknown"
SPLIT_COLUMN = "split"
SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test")
DELIMITERS = ("|", ";", ",")
STATES = {"1": 1, "0": 0, "-1": -1, "": -1, "true": 1, "false": 0}


def find_tables(path: Path) -> dict[str | None, Path]:
    """The tables of a dataset by split.

    They are the path itself, or `metadata.*` in the folder or in those of its splits, or `train.csv` and such, or the
    only table of the folder.
    """
    if path.is_file():
        return {None: path} if _is_table(path) else {}
    tables = [file for file in sorted(path.iterdir()) if _is_table(file)]
    by_stem = {file.stem: file for file in tables}
    if "metadata" in by_stem:
        return {None: by_stem["metadata"]}
    inside = {file.parent.name: file for file in sorted(path.glob("*/metadata.*")) if _is_table(file)}
    splits = {stem: file for stem, file in by_stem.items() if stem.lower() in SPLITS}
    return inside or splits or ({None: tables[0]} if len(tables) == 1 else {})


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and path.is_file()


def read_table(
    path: Path,
    folder: Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
    labels: bool = True,
) -> dict[str | None, LabelledImages]:
    """A table of image files and their labels.

    The labels stand in one column, as lists or as text that a delimiter divides, or there is one column for each label
    with 1 (present), 0 (absent), -1 or nothing (unknown). With labels in one column an image may have several rows,
    each with some of its labels, and a column `unknown` may name labels that are not known. A column `split` gives the
    split of each image.

    Args:
        path: a file of `TABLE_SUFFIXES`.
        folder: the folder that the image paths are relative to; default: that of the table.
        image_column: default: the first of `IMAGE_COLUMNS`.
        label_column: default: the first of `LABEL_COLUMNS`; without any, one column for each label.
        delimiter: see [`read_labels`].
        names: the label set; with columns of these names, they are the label columns.
        labels: whether to read the labels; without, the images have none.

    Returns:
        The images by split: that of the column `split`, else the first folder of their paths where all of these are
        named as splits are, else None.

    Raises:
        DataError: if the table is malformed or lacks a column, or an image is missing or outside the folder.
    """
    columns = read_columns(path)
    folder = Path(folder or path.parent).resolve()
    image_column = find_column(list(columns), image_column, IMAGE_COLUMNS, path, "image")
    if image_column is None:
        raise DataError(
            f"{path}: no column with the image files; expected one of {', '.join(IMAGE_COLUMNS)}, or image_column; "
            f"the columns are {', '.join(columns)}"
        )
    files = columns[image_column]
    if not files:
        raise DataError(f"{path}: a table without rows")
    present, unknown, declared = [()] * len(files), [()] * len(files), None
    if labels:
        present, unknown, declared = table_labels(columns, path, image_column, label_column, delimiter, names)
    split_of = columns.get(SPLIT_COLUMN) or [str(name).replace("\\", "/").partition("/")[0] for name in files]
    if SPLIT_COLUMN not in columns and not set(split_of) <= set(SPLITS):
        split_of = [None] * len(files)
    splits: dict[str | None, LabelledImages] = {}
    row_of: dict[tuple[str | None, str], int] = {}
    for i, name in enumerate(files):
        split, image = split_of[i] or None, image_file(folder, name, f"{path}: row {i + 1}")
        source = splits.setdefault(split, LabelledImages(str(path), names=declared))
        row = row_of.setdefault((split, image), len(source.images))
        if row == len(source.images):
            source.add(image, present[i], unknown[i])
        elif declared:
            raise DataError(f"{path}: row {i + 1}: {name} is in an earlier row too; keep one of them")
        else:
            source.labels[row] = [*source.labels[row], *present[i]]
            source.unknown[row] = [n for n in [*source.unknown[row], *unknown[i]] if n not in source.labels[row]]
    for source in splits.values():
        require_files(source)
    return splits


def read_columns(path: Path) -> dict[str, list]:
    """The columns of a table by name; text in CSV and TSV, whatever they hold in JSON Lines and Parquet."""
    if path.suffix.lower() == ".parquet":
        try:
            return pyarrow.parquet.read_table(path).to_pydict()
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: not a valid Parquet file ({str(error).splitlines()[0]})") from error
    if path.suffix.lower() == ".jsonl":
        return _read_json_lines(path)
    return _read_csv(path)


def _read_json_lines(path: Path) -> dict[str, list]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number} is not valid JSON ({error})") from error
            if not isinstance(rows[-1], dict):
                raise DataError(f"{path}: line {number} is not a JSON object")
    columns = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in columns}


def _read_csv(path: Path) -> dict[str, list]:
    text = read_text(path)
    separator = "\t" if path.suffix.lower() == ".tsv" else _find_separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if rows and row and len(row) != len(rows[0]):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the header {len(rows[0])}; put values that "
                    f'contain {separator!r} in quotes, as in "a{separator}b"'
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not valid CSV ({error})") from error
    if not rows:
        raise DataError(f"{path}: an empty table; the first line must name the columns")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name in {', '.join(header)}")
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}


def _find_separator(text: str) -> str:
    """The comma, semicolon or tab that divides the header: into names with one of an image column, or most names."""
    headers = {mark: next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), []) for mark in ",;\t"}
    usual = [mark for mark, names in headers.items() if {name.strip().lower() for name in names} & {*IMAGE_COLUMNS}]
    return max(usual or headers, key=lambda mark: len(headers[mark]))


def find_column(
    columns: Sequence[str], given: str | None, usual: Sequence[str], origin: str | Path, what: str
) -> str | None:
    """The given column, else the first of the usual names that is there, in any case; None if none is.

    Raises:
        DataError: if the given column is not there.
    """
    if given is not None:
        if given not in columns:
            raise DataError(
                f"{origin}: no column {given!r} for {what}_column; the columns are {', '.join(map(str, columns))}"
            )
        return given
    by_lower_case = {name.lower(): name for name in reversed(columns)}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)


def table_labels(
    columns: dict[str, list],
    origin: str | Path,
    image_column: str,
    label_column: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> tuple[list[list[str]], list[list[str]], list[str] | None]:
    """The labels of a table in any form.

    Returns:
        For each row the names of the labels that are present and of those that are unknown, and the label set where
        the table declares it (one column for each label).
    """
    others = [name for name in columns if name not in (image_column, SPLIT_COLUMN)]
    if names and label_column is None and set(names) <= set(others):
        return *_label_columns({name: columns[name] for name in names}, origin), list(names)
    label_column = find_column(others, label_column, LABEL_COLUMNS, origin, "label")
    if label_column is not None:
        values = columns[label_column]
        given = [UNKNOWN_COLUMN] if UNKNOWN_COLUMN in columns else []
        delimiter = find_delimiter([v for name in (label_column, *given) for v in columns[name]], delimiter, names)
        labels = read_labels(values, f"{origin}: column {label_column!r}", delimiter, names)
        unknown = [[] for _ in labels]
        for name in given:
            unknown = read_labels(columns[name], f"{origin}: column {name!r}", delimiter, names)
        unknown = [[name for name in row if name not in seen] for row, seen in zip(unknown, labels, strict=True)]
        return labels, unknown, None
    found = {name: columns[name] for name in others if _holds_states(columns[name])}
    if not found:
        way = (
            f"a column for each of {', '.join(names)}" if names else "a column for each label with 1, 0, -1 or nothing"
        )
        raise DataError(
            f"{origin}: no labels; expected a column {' or '.join(LABEL_COLUMNS[:3])}, label_column, or {way}; the "
            f"columns are {', '.join(columns)}"
        )
    if names and (missing := [name for name in names if name not in columns]):
        raise DataError(f"{origin}: no column {missing[0]!r}, which is in label_names; found {', '.join(found)}")
    return *_label_columns(found, origin), list(found)


def _holds_states(values: Iterable) -> bool:
    """Whether most of a column's filled cells are 1, 0 or -1."""
    filled = [state_of(value) is not None for value in values if value not in ("", None) and value == value]
    return bool(filled) and sum(filled) > len(filled) / 2


def state_of(value) -> int | None:
    """1, 0 or -1 for what a cell says about a label; None for anything else."""
    if value is None or value != value:
        return -1
    if isinstance(value, str):
        value = value.strip().lower()
        return STATES.get(value.removesuffix(".0"))
    return int(value) if isinstance(value, (bool, int, float)) and value in (1, 0, -1) else None


def _label_columns(columns: dict[str, list], origin: str | Path) -> tuple[list[list[str]], list[list[str]]]:
    length = len(next(iter(columns.values())))
    labels, unknown = [[] for _ in range(length)], [[] for _ in range(length)]
    for name, values in columns.items():
        for i, value in enumerate(values):
            state = state_of(value)
            if state is None:
                raise DataError(
                    f"{origin}: row {i + 1}, column {name!r}: {value!r} is not 1, 0, -1 or nothing; correct it, or say "
                    "which columns are labels as label_names"
                )
            if state:
                (labels if state == 1 else unknown)[i].append(name)
    return labels, unknown


def find_delimiter(values: Sequence, delimiter: str | None = None, names: Sequence[str] | None = None) -> str | None:
    """What divides the labels in cells of text; None where nothing does.

    With a label set it is the first of none, `|`, `;`, `,` and the space that divides every cell into labels of the
    set; without one it is whichever of `|`, `;` and `,` occurs.

    Raises:
        DataError: if several of them occur, and no label set tells which one divides.
    """
    cells = {value.strip() for value in values if isinstance(value, str)} - {""}
    if delimiter is not None or any(cell.startswith("[") for cell in cells):
        return delimiter
    if names:
        for candidate in (None, *DELIMITERS, " "):
            if all(set(divide(cell, candidate)) <= set(names) for cell in cells):
                return candidate
    found = [candidate for candidate in DELIMITERS if any(candidate in cell for cell in cells)]
    if len(found) > 1:
        example = next(cell for cell in cells if found[0] in cell)
        raise DataError(
            f"labels such as {example!r}: {' and '.join(found)} both occur; say which one divides them as delimiter, "
            "or write lists in JSON"
        )
    return found[0] if found else None


def divide(cell: str, delimiter: str | None) -> list[str]:
    """The labels in a cell of text; those that contain the delimiter are in double quotes."""
    if not cell.strip():
        return []
    if delimiter is None:
        return [cell.strip()]
    try:
        parts = next(csv.reader([cell], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(f"labels {cell!r}: a quote is not closed or not at the start of a label ({error})") from error
    return [part.strip() for part in parts if part.strip()]


def read_labels(
    values: Sequence, origin: str, delimiter: str | None = None, names: Sequence[str] | None = None
) -> list[list[str]]:
    """A column of labels as lists of names.

    Args:
        values: texts, lists of texts, whole numbers or lists of them, one for each image; nothing stands for no label.
            A text may be a list in JSON or Python's notation; else the delimiter divides it.
        origin: what errors call the column.
        delimiter: from [`find_delimiter`].
        names: the label set; whole numbers are indices into it, or, in lists as long as the set that repeat a number,
            1, 0 and -1 for each label. Without it, numbers are names.

    Raises:
        DataError: if a column mixes types.
    """
    kinds: dict[str, int] = {}
    for i, value in enumerate(values):
        if value is not None and value != "":
            kinds.setdefault(_kind(value), i)
            if isinstance(value, list):
                for entry in value:
                    kinds.setdefault(f"list of {_kind(entry)}", i)
    entries = [kind for kind in kinds if kind.startswith("list of")]
    for mixed in ([kind for kind in kinds if kind not in entries], entries):
        if len(mixed) > 1:
            where = " and ".join(f"{kind} (row {kinds[kind] + 1})" for kind in mixed[:2])
            raise DataError(f"{origin}: mixes {where}; write all rows alike")
    wrong = [kind for kind in kinds if kind.removeprefix("list of ") not in ("text", "whole number", "list")]
    if wrong:
        raise DataError(f"{origin}: row {kinds[wrong[0]] + 1}: {wrong[0]} is no label; use names or whole numbers")
    if "text" in kinds and any(isinstance(value, str) and value.lstrip().startswith("[") for value in values):
        lists = [_written_list(value, f"{origin}: row {i + 1}") for i, value in enumerate(values)]
        return read_labels(lists, origin, names=names)
    rows = [_as_list(value, delimiter) for value in values]
    if "whole number" in kinds or "list of whole number" in kinds:
        return _named(rows, origin, names)
    return rows


def _kind(value) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, list)):
        return type(value).__name__
    return {str: "text", int: "whole number", list: "list"}[type(value)]


def _as_list(value, delimiter: str | None) -> list:
    if value is None:
        return []
    if isinstance(value, str):
        return divide(value, delimiter)
    return list(value) if isinstance(value, list) else [value]


def _written_list(value: str | None, origin: str) -> list | None:
    """A list that is written as text."""
    if value is None or not value.strip():
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value)
        except (ValueError, SyntaxError):
            continue
        if isinstance(parsed, list):
            return parsed
    raise DataError(f'{origin}: {value!r} is not a list, as other rows are; write all rows alike, such as ["cat"]')


def _named(rows: list[list[int]], origin: str, names: Sequence[str] | None) -> list[list[str]]:
    if names is None:
        return [[str(number) for number in row] for row in rows]
    multi_hot = all(len(row) == len(names) and set(row) <= {0, 1, -1} for row in rows)
    if multi_hot and any(len(set(row)) < len(row) for row in rows):
        if any(-1 in row for row in rows):
            raise DataError(f"{origin}: -1 in a list of 1 and 0; give a column for each label, or a column unknown")
        return [[name for name, state in zip(names, row, strict=True) if state] for row in rows]
    for i, row in enumerate(rows):
        outside = [number for number in row if not 0 <= number < len(names)]
        if outside:
            raise DataError(
                f"{origin}: row {i + 1}: label {outside[0]}, but there are {len(names)} (0 to {len(names) - 1})"
            )
    return [[names[number] for number in row] for row in rows]
