"""Tables of images and labels: CSV, TSV, JSON Lines and Parquet, with labels in any of their usual forms."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet

from assocformer_hf.data.images.decoding import IMAGE_SUFFIXES
from assocformer_hf.data.readers.files import (
    image_file,
    image_files,
    is_image_name,
    read_text,
    without_foreign_root,
)
from assocformer_hf.data.readers.labels import NoLabelsError, usual_form
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.readers.reader import Match, Reader, Splits
from assocformer_hf.data.readers.rows import IMAGE_COLUMNS, labelled_splits
from assocformer_hf.data.readers.states import is_empty
from assocformer_hf.data.result_shards import BAD_FILES
from assocformer_hf.data.schema import DataError, LabelledImages
from assocformer_hf.data.split_names import split_of, split_words
from assocformer_hf.wording import first_line

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SEPARATOR_LINE = re.compile(r"sep=(.)(\r\n|\n|\r|$)", re.IGNORECASE)  # the first, of spreadsheets
NAMES = ("metadata", "_classes")  # the first of `datasets`, the second of Roboflow


class TableReader(Reader):
    """A table of image files and their labels.

    The tables are the path itself, or `metadata.*` in the folder or in those of its splits, or `train.csv` and such, or
    the only table of the folder. The labels stand in one column, as lists or as text that a delimiter divides, or there
    is one column for each label with 1 (present), 0 (absent), -1 or nothing (unknown). With labels in one column an
    image may have several rows, each with some of its labels, and a column `unknown` may name labels that are not
    known. A column `split`, or `is_valid`, gives the split of each image, else the folders of splits that all lie in.
    """

    form = "table"
    looks_for = "metadata.csv, .tsv, .jsonl or .parquet beside the images, train.csv and such, one table"

    def matches(self, source: Path) -> Match:
        if source.is_file():
            return Match.SURE if _is_table(source) else Match.NO
        if _usual_tables(source):
            return Match.SURE
        alone = _tables(source)
        if len(alone) == 1:
            return Match.SURE if self.options.image_column or _names_images(alone[0]) else Match.MAYBE
        return Match.MAYBE if alone else Match.NO

    def read(self, source: Path) -> Splits:
        splits: Splits = {}
        for name, file in self._files(source).items():
            try:
                parts = read_table(file, self.options, self.data_dir, name)
            except NoLabelsError:
                if name is None or split_of(name) != "test":
                    raise
                self.left_out[file.name] = "a test table without labels"
                continue
            for own, part in parts.items():
                if (own or name) in splits:
                    raise DataError(f"{source}: two tables have images of the split {own or name}; join them")
                splits[own or name] = lambda part=part: part
        return splits

    def _files(self, source: Path) -> dict[str | None, Path]:
        """The tables by split."""
        if source.is_file():
            return {None: source}
        tables, usual = _tables(source), _usual_tables(source)
        if not usual:
            named = [file for file in tables if _names_images(file)] or tables
            self.left_out |= {file.name: "a table without a column of images" for file in tables if file not in named}
            if len(named) > 1:
                raise DataError(f"{named[0]} and {named[1].name}: give one of them as the dataset")
            return {None: named[0]} if named else {}
        here = [file for file in usual if file.parent == source]
        below = [file for file in usual if file.parent != source]
        if here and (below or (len(here) > 1 and any(file.stem.lower() in NAMES for file in here))):
            raise DataError(f"{here[0]} and {(below or here[1:])[0]} both list images; give one of them as the dataset")
        found: dict[str | None, Path] = {}
        for file in usual:
            name = file.stem if file in here else file.parent.name
            name = None if file in here and name.lower() in NAMES else name
            if name in found:
                raise DataError(f"{found[name]} and {file} both list images of {name}; keep one of them")
            found[name] = file
        self.left_out |= {file.name: "a table of another name" for file in tables if file not in usual}
        return found


def _tables(folder: Path) -> list[Path]:
    """The tables of a folder, but for the list of images that the package could not read when it wrote the folder."""
    return [file for file in sorted(folder.iterdir()) if _is_table(file) and file.name != BAD_FILES]


def _usual_tables(folder: Path) -> list[Path]:
    """The tables of a folder, and of the folders in it, whose names say what they are."""
    here = [file for file in _tables(folder) if file.stem.lower() in NAMES or split_of(file.stem)]
    below = [file for name in NAMES for file in sorted(folder.glob(f"*/{name}.*")) if _is_table(file)]
    return here + below


def _is_table(path: Path) -> bool:
    usual = path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    return usual and not embeds_images(path)


def embeds_images(path: Path) -> bool:
    """Whether a file is Parquet whose column of images has the images in it, not only their paths."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return False
    return any(
        pyarrow.types.is_struct(field.type)
        and field.type.get_field_index("bytes") >= 0
        or pyarrow.types.is_binary(field.type)
        and usual_form(field.name) in IMAGE_COLUMNS
        for field in schema
    )


def _names_images(path: Path) -> bool:
    """Whether a table has a column of images, or is too broken to tell."""
    try:
        names = column_names(path)
    except DataError:
        return True
    return any(usual_form(name) in IMAGE_COLUMNS for name in names)


def read_table(
    path: Path, options: SourceOptions, folder: Path | None = None, name: str | None = None, labels: bool = True
) -> dict[str | None, LabelledImages]:
    """The images of a table by split, see [`labelled_splits`].

    Args:
        path: a file of `TABLE_SUFFIXES`.
        options: the columns, the delimiter, the label set.
        folder: the folder that the image paths are relative to; default: that of the table.
        name: of the split that the table is of, which may be the folder of its images.
        labels: whether to read the labels; without, the images have none.

    Raises:
        DataError: if the table is malformed or lacks a column, or an image is outside the folder.
    """

    def locate(files: list) -> tuple[list[str], list[str], Path]:
        return locate_images(files, path, folder, name or path.stem)

    split = name if name and split_of(name) else None
    return labelled_splits(read_columns(path), declared_features(path), path, options, locate, split, labels)


def locate_images(names: Sequence, table: Path, folder: Path | None, split: str) -> tuple[list[str], list[str], Path]:
    """The paths of the images that a table names, what to note about where they were found, and the folder for these.

    Names are relative to the folder. Where all are absolute, and no folder is given, they are taken as they are.
    Where none of them is a file there, they are looked for in the folders below, with and without their endings, first
    in a folder that is called as the split; where a folder of the split has one of them, not in those of other splits.

    Args:
        names: the cells of the table.
        table: the file.
        folder: the folder given; None for that of the table.
        split: what the table's images may be in a folder of.

    Raises:
        DataError: if a name is none or leads out, or fits two files.
    """
    root = Path(folder or table.parent).resolve()
    given, names = names, without_foreign_root(names, root)
    notes = [] if names is given else [f"paths of another machine are read below {root}, such as {names[0]}"]
    if folder is None and all(isinstance(name, str) and os.path.isabs(name) for name in names):
        images = [os.path.normpath(name) for name in names]
        for i, image in enumerate(images):
            if not is_image_name(image):
                raise DataError(f"{table}: row {i + 1}: {image} leads out of {root}, and is not called as images are")
        return images, [f"images lie where their absolute paths say: {os.path.commonpath(images)}"], root
    names = [name if isinstance(name, str) or is_empty(name) else str(name) for name in names]
    paths = [image_file(root, name, f"{table}: row {i + 1}") for i, name in enumerate(names)]
    if not any(map(os.path.isfile, paths)) and (found := _by_name(list(dict.fromkeys(paths)), root, split)):
        places = sorted({os.path.relpath(os.path.dirname(path), root) for path in found.values()})
        notes.append(f"images found by their names in {', '.join(places[:3])}")
        return [found.get(path, path) for path in paths], notes, root
    return paths, notes, root


def _split_of_folder(file: str, root: Path) -> str | None:
    """The split that a word in the name of a folder below the root tells, the uppermost such as `train_images`."""
    folders = os.path.relpath(file, root).split(os.sep)[:-1]
    meant = [set(map(split_of, split_words(folder))) for folder in folders]
    return next((splits.pop() for splits in meant if len(splits) == 1), None)


def _by_name(paths: list[str], root: Path, split: str) -> dict[str, str]:
    """For paths that are no files the one image below the root whose name, or name without ending, is theirs."""
    files_of: dict[str, list[str]] = {}
    for file in image_files(root):
        for name in {os.path.basename(file), os.path.splitext(os.path.basename(file))[0]}:
            files_of.setdefault(name, []).append(file)
    own_splits = {split_of(split), "validation" if split.lower().startswith("trainval") else None} - {None}
    fits_of, folder = {}, str(root / split) + os.sep
    for path in paths:
        tail = os.sep + os.path.relpath(path, root)
        files = files_of.get(os.path.basename(path), [])
        fits_of[path] = [file for file in files if file.endswith(tail) or os.path.splitext(file)[0].endswith(tail)]
    in_folder = any(
        file.startswith(folder) or _split_of_folder(file, root) in own_splits
        for fits in fits_of.values()
        for file in fits
    )
    found = {}
    for path, fits in fits_of.items():
        own = [file for file in fits if file.startswith(folder)]
        if in_folder:  # one that is missing there is not its namesake of another split
            fits = [file for file in fits if _split_of_folder(file, root) in {None, *own_splits}]
        # An original that cannot be read, such as a camera's raw file in a folder of its own, is not what is meant.
        fits = own or [file for file in fits if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES] or fits
        if len(fits) > 1:
            tail = os.path.relpath(path, root)
            raise DataError(f"{tail} can be {fits[0]} and {fits[1]}; give the folder of the images as data_dir")
        if fits:
            found[path] = fits[0]
    return found


def column_names(path: Path) -> list[str]:
    """The names of a table's columns, from its head.

    Raises:
        DataError: as [`read_columns`].
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path, lambda: pyarrow.parquet.read_schema(path).names)
    with _opened(path) as file:
        head = file.readline()
        head += file.readline() if SEPARATOR_LINE.fullmatch(head) else ""
    if path.suffix.lower() == ".jsonl":
        return [name for row in _json_rows(path, [head]) for name in row]
    return _rows_of_csv(path, head)[0]


def read_columns(path: Path) -> dict[str, list]:
    """The columns of a table by name; text in CSV and TSV, whatever they hold in JSON Lines and Parquet.

    Raises:
        DataError: if the file is malformed.
    """
    if path.suffix.lower() == ".parquet":
        table = _parquet(path, lambda: pyarrow.parquet.read_table(path))
        if len(set(table.column_names)) < len(table.column_names):
            raise DataError(f"{path}: two columns have the same name in {', '.join(table.column_names)}")
        return _parquet(path, table.to_pydict)
    if path.suffix.lower() == ".jsonl":
        rows = _json_rows(path, read_text(path).split("\n"))
        columns = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in columns}
    header, *rows = _rows_of_csv(path, read_text(path))
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)) if rows else {name: [] for name in header}


def declared_features(path: Path) -> Mapping:
    """What `datasets` wrote into a Parquet file of the types of its columns, such as the names of classes.

    Raises:
        DataError: if the file is malformed, or this `datasets` does not know a type.
    """
    if path.suffix.lower() != ".parquet":
        return {}
    schema = _parquet(path, lambda: pyarrow.parquet.read_schema(path))
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    try:
        return datasets.Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: the types of its columns, which it has under 'huggingface', are unknown to datasets "
            f"{datasets.__version__} ({first_line(error)}); update datasets, or write the file without them"
        ) from error


def _opened(path: Path):
    try:
        return path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _parquet(path: Path, read):
    try:
        return read()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a valid Parquet file ({first_line(error)})") from error


def _json_rows(path: Path, lines: Sequence[str]) -> list[dict]:
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:  # the first also for whole numbers of thousands of digits
                raise DataError(f"{path}: line {number} is not valid JSON ({error})") from error
            if not isinstance(rows[-1], dict):
                raise DataError(f"{path}: line {number} is not a JSON object")
    return rows


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lifts the limit of `csv`, which is that of the whole process, for a while: masks as text are longer than it."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@_fields_of_any_length()
def _rows_of_csv(path: Path, text: str) -> list[list[str]]:
    """The rows, the first with the names of the columns; each has as many fields as it."""
    rows: list[list[str]] = []
    if declared := SEPARATOR_LINE.match(text):
        text, separator = "\n" + text[declared.end() :], declared[1]
    else:
        separator = "\t" if path.suffix.lower() == ".tsv" else _find_separator(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                if rows and len(row) != len(rows[0]):
                    raise DataError(
                        f"{path}: line {reader.line_num} has {len(row)} fields, the header {len(rows[0])}; put values "
                        f'that contain {separator!r} in quotes, as in "a{separator}b"'
                    )
                rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not valid CSV ({error})") from error
    if not rows:
        raise DataError(f"{path}: an empty table; the first line must name the columns")
    rows[0] = [name.strip() for name in rows[0]]
    # Spreadsheets write columns that hold nothing, not even a name.
    filled = [i for i, name in enumerate(rows[0]) if name or any(row[i].strip() for row in rows)]
    rows = [[row[i] for i in filled] for row in rows] if len(filled) < len(rows[0]) else rows
    if len(set(rows[0])) != len(rows[0]):
        raise DataError(f"{path}: two columns have the same name in {', '.join(rows[0])}")
    return rows


def _find_separator(path: Path, text: str) -> str:
    """The comma, semicolon or tab that divides the header: into names with one of an image column, or most names."""
    try:
        headers = {mark: next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), []) for mark in ",;\t"}
    except csv.Error as error:
        raise DataError(f"{path}: line 1 is not valid CSV ({error})") from error
    usual = [mark for mark, names in headers.items() if {*map(usual_form, names)} & {*IMAGE_COLUMNS}]
    return max(usual or headers, key=lambda mark: len(headers[mark]))
