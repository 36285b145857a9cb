"""Labels in the columns of a table: which columns they are, and their names whatever form they are written in."""

import ast
import csv
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np

from assocformer_hf.data.schema import DataError
from assocformer_hf.wording import some

LABEL_COLUMNS = ("labels", "label", "tags", "tag", "categories", "category", "classes", "class")
PLAIN_LABEL_COLUMNS = LABEL_COLUMNS[:4]  # which can hardly be anything else
UNKNOWN_COLUMN = "unknown"
# Columns that hold 1 and 0 and are seldom labels; also with `is` before them, and with underscores.
NO_LABELS = frozenset(
    ("fold", "kfold", "valid", "test", "train", "val", "split", "index", "id", "group", "source", "year", "height",
     "width", "size", "weight", "sex", "gender", "age", "patient", "version", "count", "unnamed: 0", "duplicate",
     "augmented", "flip", "crowd", "difficult", "truncated", "occluded", "groupof", "depiction", "inside", "verified",
     "reviewed", "annotator")
)  # fmt: skip
LISTS = (datasets.List, datasets.LargeList)
DELIMITERS = ("|", ";", ",")
QUOTED = re.compile(r'(?:^|(?<=[|;,]))\s*"(?:[^"]|"")*"(?=\s*(?:[|;,]|$))')  # a label
NUMBER = re.compile(r"-?\d+")
UNDIVIDED = re.compile(r"[\w.-]*")  # needs no quotes in a cell of text
CLASS_STATES = {"yes": "1", "present": "1", "positive": "1", "no": "0", "absent": "0", "negative": "0"}
STATES = {"1": 1, "0": 0, "-1": -1, "true": 1, "false": 0}
NO_STATES = ("na", "nan", "null", "none")  # how R, pandas and others write a state that is not known


class NotAnnotated(tuple):
    """A cell whose class is -1, which says nothing: each of these names may be a label or not."""


class NoLabelsError(DataError):
    """A table without a column of labels."""


@dataclass
class TableLabels:
    """The labels of a table.

    Attributes:
        present: for each row the names of the labels that are present.
        unknown: for each row the names of those that are unknown.
        names: the label set, where the table declares it by a column for each label.
        columns: the columns used, by what they are for.
        ignored: the columns that were not used.
    """

    present: Sequence[Sequence[str]]
    unknown: Sequence[Sequence[str]]
    names: list[str] | None
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def find_column(
    columns: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    origin: str | Path,
    what: str,
    alternatives: bool = True,
) -> str | None:
    """The given column, else the first of the usual names that is there, in any case; None if none is.

    Args:
        columns: the names.
        given: the option's value.
        usual: the usual names.
        origin: what errors call the table.
        what: the option's name without `_column`.
        alternatives: whether a table may have several of the usual names, of which the first counts.

    Raises:
        DataError: if the given column is not there, or two could be meant.
    """
    if given is not None:
        if given not in columns:
            raise DataError(
                f"{origin}: no column {given!r} for {what}_column; the columns are {', '.join(map(str, columns))}"
            )
        return given
    found: dict[str, list[str]] = {}
    for name in columns:
        found.setdefault(name.lower(), []).append(name)
    there = [name for key in usual for name in found.get(key, [])]
    if len(there) > 1 and (not alternatives or there[0].lower() == there[1].lower()):
        decide = f"choose one as {what}_column" if what in ("image", "label") else "remove or rename one of them"
        raise DataError(f"{origin}: the columns {there[0]!r} and {there[1]!r} may both be the {what} column; {decide}")
    return there[0] if there else None


def table_labels(
    columns: dict[str, list],
    origin: str | Path,
    others: Sequence[str],
    label_column: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> TableLabels:
    """The labels of a table in any form.

    Args:
        columns: the table's columns, each as long as the others.
        origin: what errors call the table.
        others: the columns that may be labels.
        label_column: the column of labels; default: that with a usual name. Without any, one column for each label.
        delimiter: see [`find_delimiter`].
        names: the label set; with columns of these names, they are the label columns.

    Raises:
        DataError: if there are no labels, they are malformed, or two columns may be meant.
    """
    if names and label_column is None and set(names) <= set(others) and not _name_labels(columns, names):
        return _of_columns(columns, names, others, origin)
    given = label_column is not None
    label_column = find_column(others, label_column, LABEL_COLUMNS, origin, "label", alternatives=False)
    if label_column is not None:
        rest = [name for name in others if name != label_column]
        if not given and not names:
            refuse_states_beside(label_column, columns, rest, origin)
        unknown_column = find_column(rest, None, (UNKNOWN_COLUMN,), origin, UNKNOWN_COLUMN)
        used = [label_column, unknown_column] if unknown_column else [label_column]
        try:
            delimiter = find_delimiter([value for name in used for value in columns[name]], delimiter, names)
        except DataError as error:
            raise DataError(f"{origin}: {error}") from error
        parts = [read_labels(columns[name], f"{origin}: column {name!r}", delimiter, names) for name in used]
        unknown: Sequence[Sequence[str]] = [()] * len(parts[0])
        if unknown_column:
            _refuse_flags(unknown_column, [columns[name] for name in used], parts, names, origin)
            unknown = [[n for n in row if n not in seen] for row, seen in zip(parts[1], parts[0], strict=True)]
        cells = columns[label_column]
        unknown = [
            names or cell if isinstance(cell, NotAnnotated) else row for cell, row in zip(cells, unknown, strict=True)
        ]
        roles = dict(zip(("labels", "unknown"), used, strict=False))
        return TableLabels(parts[0], unknown, None, roles, [name for name in others if name not in used])
    found = [name for name in others if _holds_states(columns[name])]
    if not found:
        way = (
            f"a column for each of {', '.join(names)}" if names else "a column for each label with 1, 0, -1 or nothing"
        )
        raise NoLabelsError(
            f"{origin}: no labels; expected a column {' or '.join(LABEL_COLUMNS[:3])}, label_column, or {way}; the "
            f"columns are {', '.join(columns)}"
        )
    if names and (missing := [name for name in names if name not in columns]):
        raise DataError(f"{origin}: no column {missing[0]!r}, which is in label_names; found {', '.join(found)}")
    return _of_columns(columns, found, others, origin)


def _name_labels(columns: Mapping[str, list], names: Sequence[str]) -> bool:
    """Whether the only label is called as the column of labels, such as `tag`, and that says nothing of 1 and 0."""
    return len(names) == 1 and names[0].lower() in LABEL_COLUMNS and not _share_of_states(columns[names[0]])


def refuse_states_beside(label_column: str, columns: Mapping[str, list], others: Sequence[str], origin: str | Path):
    """Raises DataError where columns beside one with a usual name may be those of the labels.

    Args:
        label_column: the one that nobody chose.
        columns: the others by name, and it, unless it holds lists.
        others: the columns that may be labels.
        origin: what the error calls the table.
    """
    beside = [name for name in others if not is_no_label(name) and _holds_states(columns[name])]
    values = columns.get(label_column, ())
    if beside and _share_of_states(values) == 1:
        raise DataError(
            f"{origin}: columns {label_column!r} and {beside[0]!r} both hold 1 and 0: give {label_column!r} as "
            "label_column if it names the labels, or the labels that have a column as label_names"
        )
    empty = bool(values) and all(map(is_empty, values))
    if len(beside) > 1 and (empty or label_column.lower() not in PLAIN_LABEL_COLUMNS):
        shown = f"{label_column!r}, which is empty," if empty else repr(label_column)
        raise DataError(
            f"{origin}: column {shown} may name the labels, or columns such as {beside[0]!r} and {beside[1]!r} be "
            "labels: give the one as label_column, or the others as label_names"
        )


def _refuse_flags(
    column: str,
    values: Sequence[Sequence],
    parts: Sequence[Sequence[Sequence[str]]],
    names: Sequence[str] | None,
    origin: str | Path,
):
    """Raises DataError where a column that should name unknown labels says 1 or 0 of each image.

    Args:
        column: its name.
        values: of the column of labels and of this.
        parts: the names that they give.
        names: the label set, if it is given.
        origin: what the error calls the table.
    """
    if _share_of_states(values[1]) < 1:
        return
    present, unknown = ({name for row in part for name in row} for part in parts)
    numbers = not any(isinstance(value, str) for value in values[1])
    if (numbers and any(isinstance(value, str) for value in values[0])) or not unknown & (present | set(names or ())):
        raise flags_for_names(column, origin)


def flags_for_names(column: str, origin: str | Path) -> DataError:
    """The error of a column `unknown` that says something else."""
    return DataError(
        f"{origin}: column {column!r} holds 1 and 0, where the names of the labels that are unknown should stand: "
        "rename it, if it is something else"
    )


def is_no_label(column: str) -> bool:
    """Whether a column is called like one that holds 1 and 0 and is seldom a label."""
    return column.lower().replace("_", "").removeprefix("is") in NO_LABELS


def refuse_states_of_rows(columns: Mapping[str, list], images: Sequence[str], found: TableLabels, origin: str | Path):
    """Raises DataError where images have several rows with a label each, and a column says whether it is there.

    That differs between the rows of an image, and between those of a label. What does not is a property of the image,
    or a number of the label.

    Args:
        columns: by name.
        images: of the rows.
        found: the labels of the rows, and the columns that are not used.
        origin: what the error calls the table.
    """
    for name in found.ignored:
        if is_no_label(name) or _share_of_states(columns[name]) < 1:
            continue
        of_label: dict[tuple, set] = {}
        of_image: dict[str, set] = {}
        for image, labels, value in zip(images, found.present, columns[name], strict=True):
            if not _is_no_state(value):
                of_label.setdefault(tuple(labels), set()).add(state_of(value))
                of_image.setdefault(image, set()).add(state_of(value))
        if all(any(len(states) > 1 for states in said.values()) for said in (of_label, of_image)):
            raise DataError(
                f"{origin}: images have several rows, and column {name!r} holds 1 and 0: it may say whether an image "
                "has the label of the row. Write one row for each image and a column for each label (pandas: "
                f"table.pivot(index=IMAGES, columns=LABELS, values={name!r}).reset_index()), or take the column out"
            )


def _holds_states(values: Sequence) -> bool:
    """Whether most of a column's filled cells are 1, 0 or -1."""
    return _share_of_states(values) > 0.5


def _share_of_states(values: Sequence) -> float:
    """The share of a column's filled cells that are 1, 0 or -1; 0 where none is filled."""
    try:
        counts = Counter(values)
    except TypeError:  # lists are no states
        return 0.0
    filled = {value: count for value, count in counts.items() if not _is_no_state(value)}
    states = sum(count for value, count in filled.items() if state_of(value) is not None)
    return states / sum(filled.values()) if filled else 0.0


def is_empty(value) -> bool:
    """Whether a cell says nothing: None, NaN, empty text or a class that nobody annotated."""
    if isinstance(value, str):
        return not value.strip()
    return (
        value is None or isinstance(value, NotAnnotated) or (isinstance(value, (float, np.floating)) and value != value)
    )


def _is_no_state(value) -> bool:
    """Whether a cell says nothing about a label, be it in words such as NA."""
    return is_empty(value) or (isinstance(value, str) and value.strip().lower() in NO_STATES)


def state_of(value) -> int | None:
    """1, 0 or -1 for what a cell says about a label; None for anything else."""
    if _is_no_state(value):
        return -1
    value = _plain(value)
    if isinstance(value, str):
        return STATES.get(value.strip().lower().removesuffix(".0"))
    return int(value) if isinstance(value, (bool, int, float)) and value in (1, 0, -1) else None


def _of_columns(columns: dict[str, list], labels: Sequence[str], others: Sequence[str], origin) -> TableLabels:
    """The labels of columns of states."""
    length = len(columns[labels[0]])
    present, unknown = [[] for _ in range(length)], [[] for _ in range(length)]
    for name in labels:
        known: dict = {}
        for i, value in enumerate(columns[name]):
            try:
                state = known[value]
            except (KeyError, TypeError):
                state = state_of(value)
                if state is None:
                    raise DataError(
                        f"{origin}: row {i + 1}, column {name!r}: {value!r} is not 1, 0, -1 or nothing; correct it, or "
                        "say which columns are labels as label_names"
                    ) from None
                known[value] = state
            if state:
                (present if state == 1 else unknown)[i].append(name)
    ignored = [name for name in others if name not in labels]
    return TableLabels(present, unknown, list(labels), {"labels": some(labels, 4)}, ignored)


def find_delimiter(values: Sequence, delimiter: str | None = None, names: Sequence[str] | None = None) -> str | None:
    """What divides the labels in cells of text; None where nothing does.

    With a label set it is the first of none, `|`, `;`, `,` and the space that divides every cell into labels of the
    set; without one it is whichever of `|`, `;` and `,` occurs.

    Raises:
        DataError: if several of them occur, and no label set tells which one divides.
    """
    cells = {value.strip() for value in values if isinstance(value, str)} - {""}
    if delimiter is not None or _are_lists(cells, delimiter):
        return delimiter
    if names:
        for candidate in (None, *DELIMITERS, " "):
            if _divides(candidate, cells, names):
                return candidate
    bare = [QUOTED.sub("", cell) for cell in cells]
    found = [candidate for candidate in DELIMITERS if any(candidate in cell for cell in bare)]
    if len(found) > 1:
        example = next(cell for cell in cells if found[0] in cell)
        raise DataError(
            f"labels such as {example!r}: {' and '.join(found)} both occur; say which one divides them as delimiter, "
            "or write lists in JSON"
        )
    return found[0] if found else None


def _divides(delimiter: str | None, cells: Iterable[str], names: Sequence[str]) -> bool:
    """Whether a delimiter divides every cell into labels of the set."""
    try:
        return all(set(divide(cell, delimiter)) <= set(names) for cell in cells)
    except DataError:
        return False


def divide(cell: str, delimiter: str | None) -> list[str]:
    """The labels in a cell of text; those that contain the delimiter are in double quotes, others may be."""
    if not cell.strip():
        return []
    broken = "labels {!r}: a line break; put a label with one in double quotes, or {} in its place"
    if delimiter is None:
        quoted = re.fullmatch(r'"((?:[^"]|"")+)"', cell.strip())
        if not quoted and re.search(r"[\r\n]", cell.strip()):
            raise DataError(broken.format(cell, DELIMITERS[0]))
        return [quoted[1].replace('""', '"') if quoted else cell.strip()]
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter must be a single character, such as | or a tab; got {delimiter!r}")
    try:
        rows = list(csv.reader(io.StringIO(cell, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(f"labels {cell!r}: a quote is not closed or not at the start of a label ({error})") from error
    if len(rows) > 1:
        raise DataError(broken.format(cell, delimiter))
    (parts,) = rows
    return [part.strip() for part in parts if part.strip()]


def innermost(kind):
    """What lists of a feature of `datasets` hold; the feature itself where it is none."""
    while isinstance(kind, LISTS):
        kind = kind.feature
    return kind


def class_names(kind) -> list[str] | None:
    """The names of a ClassLabel of `datasets`, alone or in lists."""
    kind = innermost(kind)
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else None


def class_words(kind) -> list[str] | None:
    """The names of a ClassLabel as [`class_names`] has them; where two say yes and no in words, 1 and 0."""
    names = class_names(kind)
    said = [CLASS_STATES.get(name.lower(), "") for name in names or ()]
    return said if sorted(said) == ["0", "1"] else names


def to_names(values: list, names: list[str], origin: str) -> list[list[str] | list[int] | NotAnnotated]:
    """Class indices as names; -1 is a class that is not known, and beside others none.

    Lists that say by two classes, such as no and yes, whether each of several labels is there, are of 0 and 1.
    """
    rows = [value if isinstance(value, list) else [] if value is None else [value] for value in values]
    for i, row in enumerate(rows):
        for label in row:
            if isinstance(label, int) and not -1 <= label < len(names):
                raise DataError(f"{origin}: row {i + 1}: label {label}, but there are {len(names)}")
    states = [state_of(CLASS_STATES.get(name.lower(), name)) for name in names]
    if len(names) == 2 and set(states) == {0, 1} and _length_of_states(rows, (0, 1, -1)):
        return [[states[i] if i >= 0 else i for i in row] for row in rows]
    return [
        NotAnnotated(names)
        if row and all(i == -1 for i in row)
        else [names[i] if isinstance(i, int) else i for i in row if i != -1 and i is not None]
        for row in rows
    ]


def with_class_names(
    columns: dict[str, list], features: Mapping, origin: str | Path, words: Callable = class_names
) -> dict[str, list]:
    """Columns whose indices into classes that the features declare are names.

    Args:
        columns: by name.
        features: what `datasets` knows of their types.
        origin: what errors call them.
        words: gives the classes of a type, `class_names` or `class_words`.
    """
    result = dict(columns)
    for name in columns:
        if declared := words(features.get(name)):
            rows = to_names(columns[name], declared, f"{origin}: column {name!r}")
            if not isinstance(features[name], LISTS):
                rows = [row if isinstance(row, NotAnnotated) else _cell(str(row[0])) if row else None for row in rows]
            result[name] = rows
    return result


def _cell(name: str) -> str:
    """A cell of text that [`divide`] gives the name of, which may contain what divides labels."""
    if UNDIVIDED.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'


def declared_names(labels: "TableLabels", features: Mapping) -> list[str] | None:
    """The label set of a table: that of its columns, or of the classes that its label column declares."""
    return labels.names or class_names(features.get(labels.columns.get("labels", "")))


def read_labels(
    values: Sequence, origin: str, delimiter: str | None = None, names: Sequence[str] | None = None
) -> Sequence[Sequence[str]]:
    """A column of labels as lists of names.

    Args:
        values: texts, lists of texts, whole numbers (1.0 is one) or lists of them, one for each image; nothing stands
            for no label. A text may be a list in JSON, or a list, tuple or set of Python's; else the delimiter divides
            it.
        origin: what errors call the column.
        delimiter: from [`find_delimiter`]; where one is given, texts are lists only if one of them can be read so.
        names: the label set; whole numbers are indices into it, or, where every list is as long as the set and holds
            nothing but 1 and 0, states of each label. Without it, and where its names are whole numbers, numbers are
            names.

    Raises:
        DataError: if a column mixes types, or lists of 1 and 0 can be read in two ways, or are not as long as the
            label set.
    """
    if all(type(value) is str for value in values):
        if _are_lists(set(values), delimiter):
            lists = [_written_list(value, f"{origin}: row {i + 1}") for i, value in enumerate(values)]
            return read_labels(lists, origin, names=names)
        rows_of = {}
        for value in dict.fromkeys(values):
            try:
                rows_of[value] = divide(_no_dictionary(value), delimiter)
            except DataError as error:
                raise DataError(f"{origin}: row {list(values).index(value) + 1}: {error}") from error
        divided = [rows_of[value] for value in values]
        _refuse_states(divided, ("0", "1"), origin, names)
        return divided
    values = [None if is_empty(value) else _whole(_plain(value)) for value in values]
    kinds: dict[str, int] = {}
    for i, value in enumerate(values):
        if value is not None:
            kinds.setdefault(_kind(value), i)
            if isinstance(value, list):
                for entry in value:
                    kinds.setdefault(f"list of {_kind(entry)}", i)
    entries = [kind for kind in kinds if kind.startswith("list of")]
    for mixed in ([kind for kind in kinds if kind not in entries], entries):
        if len(mixed) > 1:
            where = " and ".join(f"{kind} (row {kinds[kind] + 1})" for kind in mixed[:2])
            raise DataError(f"{origin}: mixes {where}; write all rows alike")
    allowed = ("text", "whole number", "list", "list of text", "list of whole number")
    if wrong := [kind for kind in kinds if kind not in allowed]:
        shown = wrong[0].removeprefix("list of ")
        raise DataError(f"{origin}: row {kinds[wrong[0]] + 1}: {shown} is no label; use names or whole numbers")
    if "text" in kinds:
        return read_labels([value or "" for value in values], origin, delimiter, names)
    rows = [[] if value is None else value if isinstance(value, list) else [value] for value in values]
    if "whole number" in kinds or "list of whole number" in kinds:
        return _named(rows, origin, names, lists="list" in kinds)
    _refuse_states(rows, ("0", "1"), origin, names)
    return rows


def _plain(value):
    """A value or list without types of numpy, and a tuple or set as a list."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple, set, frozenset)) else value


def _whole(value):
    """Floats that are whole numbers as such: a column of numbers with a gap is of floats in pandas."""
    if isinstance(value, list):
        return list(map(_whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, list)):
        return type(value).__name__
    return {str: "text", int: "whole number", list: "list"}[type(value)]


def _are_lists(cells: Iterable[str], delimiter: str | None) -> bool:
    """Whether cells of text are meant as lists; with a delimiter that was given, only if one of them can be read so."""
    return any(_is_list(cell) and (delimiter is None or any(_parsed(cell))) for cell in cells)


def _parsed(value: str) -> Iterator[tuple[Callable, list | tuple | set | dict]]:
    """What text says in JSON, and in Python, where that is a list or the like, with what parsed it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, (list, tuple, set, dict)):
            yield parse, parsed


def _no_dictionary(cell: str) -> str:
    """The cell; raises DataError for one that holds a dictionary."""
    if cell.lstrip().startswith("{") and any(isinstance(parsed, dict) for _, parsed in _parsed(cell)):
        raise DataError(f"labels {cell!r:.80} are a dictionary; write lists, or a column for each label")
    return cell


def _is_list(value: str) -> bool:
    """Whether text is meant as a list; parentheses and braces may also be part of a label."""
    text = value.strip()
    if not text.startswith(("(", "{", "set(")):
        return text.startswith("[")
    return any(isinstance(parsed, (tuple, set)) for _, parsed in _parsed(text))


def _written_list(value: str, origin: str) -> list | None:
    """A list that is written as text."""
    if not value.strip():
        return None
    for parse, parsed in _parsed(value):
        if not isinstance(parsed, dict):
            if parse is ast.literal_eval and _lacks_a_comma(value):
                raise DataError(f'{origin}: {value!r:.80} has no comma between two labels; write ["cat", "dog"]')
            return list(parsed)
    if value.lstrip().startswith("["):
        raise DataError(
            f'{origin}: {value!r:.80} begins like a list and is none; write lists such as ["cat"], or, where [ is part '
            "of a name, give the delimiter"
        )
    raise DataError(f'{origin}: {value!r:.80} is not a list, as other rows are; write all rows alike, such as ["cat"]')


def _lacks_a_comma(value: str) -> bool:
    """Whether two texts follow each other, as numpy prints them; Python takes them for one."""
    tokens = [one.type for one in tokenize.generate_tokens(io.StringIO(value.strip()).readline)]
    kinds = [kind for kind in tokens if kind != tokenize.NL]
    return any(kind == after == tokenize.STRING for kind, after in pairwise(kinds))


def _named(rows: list[list[int]], origin: str, names: Sequence[str] | None, lists: bool) -> list[list[str]]:
    filled = [row for row in rows if row]
    states = lists and all(set(row) <= {0, 1, -1} for row in filled)
    if names is None:
        if states and filled and len(filled[0]) > 1 and all(len(row) == len(filled[0]) for row in filled):
            raise DataError(
                f"{origin}: lists of {len(filled[0])} numbers that are all 1 or 0: give the names of the "
                f"{len(filled[0])} labels as label_names"
            )
        return [[str(number) for number in row] for row in rows]
    of_each = states and all(len(row) == len(names) for row in filled)
    # A model that was trained on numbers has them as its names: they are no indices into these.
    if all(map(NUMBER.fullmatch, names)):
        if not of_each or (list(names) == ["1"] and all(row == [1] for row in filled)):
            return [[str(number) for number in row] for row in rows]
        if all(len(set(row)) == len(row) for row in filled):
            raise DataError(
                f"{origin}: lists of {len(names)} numbers 1 and 0 can be states of the labels or their names; write "
                "names as text"
            )
    if of_each:
        if any(-1 in row for row in filled):
            raise DataError(f"{origin}: -1 in a list of 1 and 0; give a column for each label, or a column unknown")
        if len(filled) < len(rows) or (len(names) == 1 and not any(1 in row for row in filled)):
            raise DataError(
                f"{origin}: lists of {len(names)} numbers 1 and 0 can be states of the labels or their indices; write "
                "names, and an empty list for no label"
            )
        return [[name for name, state in zip(names, row, strict=True) if state] for row in rows]
    _refuse_states(rows, (0, 1, -1), origin, names)
    for i, row in enumerate(rows):
        outside = [number for number in row if not 0 <= number < len(names)]
        if outside:
            raise DataError(
                f"{origin}: row {i + 1}: label {outside[0]}, but there are {len(names)} (0 to {len(names) - 1})"
            )
    return [[names[number] for number in row] for row in rows]


def _refuse_states(rows: Sequence[Sequence], states: Sequence, origin: str, names: Sequence[str] | None):
    """Raises DataError where lists are states, but not of the label set."""
    if length := _length_of_states(rows, states):
        given = f", and label_names has {len(names)}" if names else ""
        raise DataError(
            f"{origin}: {length} numbers in each row that are all 1 or 0{given}: give the names of the {length} labels "
            "as label_names, and the numbers as lists, such as [1, 0, 1]"
        )


def _length_of_states(rows: Sequence[Sequence], states: Sequence) -> int:
    """The length of lists that are all as long and repeat 1 or 0; 0 for other lists.

    A single list, as a stream has it, must hold both.
    """
    filled = [row for row in rows if row]
    length = len(filled[0]) if filled else 0
    alike = length > 1 and all(len(row) == length and set(row) <= set(states) for row in filled)
    repeat = any(len(set(row)) < length for row in filled) and (len(filled) > 1 or len(set(filled[0])) > 1)
    return length if alike and repeat else 0
