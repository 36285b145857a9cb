"""Labels in the columns of a table: which columns they are, and what they say."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assocformer_hf.data.readers.classes import declared_labels
from assocformer_hf.data.readers.label_cells import find_delimiter, read_labels, with_choices
from assocformer_hf.data.readers.states import (
    NotAnnotated,
    holds_states,
    is_empty,
    is_no_state,
    share_of_states,
    state_of,
)
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
# Columns that hold numbers from 0 to 1 and are no labels; also with underscores.
SHARES = frozenset(
    ("confidence", "score", "probability", "rating", "quality", "xmin", "ymin", "xmax", "ymax", "xcenter", "ycenter")
)
CHOICE_COLUMNS = ("choice",)  # of Label Studio's CSV export: of labels where there is no other
MARKS = ("x", "✓", "✔", "✗", "*", "•", "+")  # that tables of label columns have in place of 1


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


def usual_form(column: str) -> str:
    """The name of a column in lower case and with underscores: `File Name` is `file_name`."""
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def find_column(
    columns: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    origin: str | Path,
    what: str,
    alternatives: bool = True,
) -> str | None:
    """The given column, else the first of the usual names that is there, see [`usual_form`]; None if none is.

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
        found.setdefault(usual_form(name), []).append(name)
    there = [name for key in usual for name in found.get(key, [])]
    if len(there) > 1 and (not alternatives or usual_form(there[0]) == usual_form(there[1])):
        decide = f"choose one as {what}_column" if what in ("image", "label") else "remove or rename one of them"
        raise DataError(f"{origin}: the columns {there[0]!r} and {there[1]!r} may both be the {what} column; {decide}")
    return there[0] if there else None


def usual_label_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """The usual names of a column of labels, and the entries of structures that are called so, in lower case."""
    return (*LABEL_COLUMNS, *entries_called(columns, LABEL_COLUMNS))


def entries_called(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The columns with dotted names whose last part is one of these names, in lower case."""
    return [name.lower() for name in columns if "." in name and name.lower().rpartition(".")[2] in names]


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
    label_column = find_column(others, label_column, usual_label_columns(others), origin, "label", alternatives=False)
    found = [name for name in others if holds_states(columns[name])] if label_column is None else []
    if label_column is None and all(map(is_no_label, found)):
        label_column = find_column(others, None, CHOICE_COLUMNS, origin, "label")
    if label_column is not None:
        rest = [name for name in others if name != label_column]
        structure = label_column.rpartition(".")[0]
        if not given and not names and not structure:
            refuse_states_beside(label_column, columns, rest, origin)
        usual = (f"{structure}.{UNKNOWN_COLUMN}".lower(), UNKNOWN_COLUMN)
        unknown_column = find_column(rest, None, usual, origin, UNKNOWN_COLUMN)
        used = [label_column, unknown_column] if unknown_column else [label_column]
        try:
            columns = columns | {label_column: with_choices(columns[label_column])}
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
    _refuse_other_states(columns, [name for name in others if name not in found], origin, bool(found))
    if not found:
        way = (
            f"a column for each of {', '.join(names)}" if names else "a column for each label with 1, 0, -1 or nothing"
        )
        raise NoLabelsError(
            f"{origin}: no labels; expected a column {' or '.join(LABEL_COLUMNS[:3])}, label_column, or {way}; the "
            f"columns are {', '.join(columns)}{_likely(columns, others)}"
        )
    if names and (missing := [name for name in names if name not in columns]):
        raise DataError(
            f"{origin}: no column {missing[0]!r}, which is in label_names, or a label that the model knows; found "
            f"{', '.join(found)}: add the column, empty where nothing is known"
        )
    if not names and all(map(is_no_label, found)):
        likely = _likely(columns, [name for name in others if name not in found])
        raise NoLabelsError(
            f"{origin}: no labels but {some(found, 3)}, which seldom is one: give the column of labels as "
            f"label_column, or {some(found, 3)} as label_names where these are labels{likely}"
        )
    return _of_columns(columns, found, others, origin)


def _refuse_other_states(columns: Mapping[str, list], others: Sequence[str], origin: str | Path, has_labels: bool):
    """Raises DataError where columns may be labels that are written otherwise than as 1 and 0.

    Args:
        columns: by name.
        others: those that hold no states.
        origin: what the error calls the table.
        has_labels: whether there are columns of states beside them; without, the table may be one without labels.
    """
    for name in others:
        values = _distinct(columns[name])
        if is_no_label(name) or not values:
            continue
        shown = some([repr(value) for value in values], 3)
        if len(values) == 1 and str(values[0]).strip().lower() in (*MARKS, name.lower()):
            why = f"holds {shown}, and an empty cell says that a label is unknown"
        elif _are_soft(values) and name.lower().replace("_", "") not in SHARES:
            why = f"holds {shown}, and a label is there or not"
        else:
            continue
        raise (DataError if has_labels else NoLabelsError)(
            f"{origin}: column {name!r} {why}: write 1 and 0 if it is a label, else give the columns of labels as "
            "label_names"
        )


def _distinct(values: Sequence) -> list:
    """The values of a column that say something, each once; nothing of lists."""
    try:
        return [value for value in dict.fromkeys(values) if not is_no_state(value)]
    except TypeError:
        return []


def _are_soft(values: Sequence) -> bool:
    """Whether values are numbers from 0 to 1, and some lie between."""
    try:
        numbers = [float(str(value).replace(",", ".")) for value in values]
    except ValueError:
        return False
    return all(0 <= number <= 1 for number in numbers) and any(0 < number < 1 for number in numbers)


def _likely(columns: Mapping[str, list], others: Sequence[str]) -> str:
    """What the columns hold that may be of labels, the first ones, as the end of an error."""
    values_of = {name: _distinct(columns[name]) for name in others if not is_no_label(name)}
    repeat = {name: values for name, values in values_of.items() if 0 < len(values) < len(columns[name])}
    return "".join(f"; {name!r} holds {some(list(map(repr, values)), 3)}" for name, values in list(repeat.items())[:3])


def _name_labels(columns: Mapping[str, list], names: Sequence[str]) -> bool:
    """Whether the only label is called as the column of labels, such as `tag`, and that says nothing of 1 and 0."""
    return len(names) == 1 and names[0].lower() in LABEL_COLUMNS and not share_of_states(columns[names[0]])


def refuse_states_beside(
    label_column: str, columns: Mapping[str, list], others: Sequence[str], origin: str | Path
) -> None:
    """Raises DataError where columns beside one with a usual name may be those of the labels.

    Args:
        label_column: the one that nobody chose.
        columns: the others by name, and it, unless it holds lists.
        others: the columns that may be labels.
        origin: what the error calls the table.
    """
    beside = [name for name in others if not is_no_label(name) and holds_states(columns[name])]
    values = columns.get(label_column, ())
    if beside and share_of_states(values) == 1:
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
    if share_of_states(values[1]) < 1:
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


def refuse_states_of_rows(
    columns: Mapping[str, list], images: Sequence[str], found: TableLabels, origin: str | Path
) -> None:
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
        if is_no_label(name) or share_of_states(columns[name]) < 1:
            continue
        of_label: dict[tuple, set] = {}
        of_image: dict[str, set] = {}
        for image, labels, value in zip(images, found.present, columns[name], strict=True):
            if not is_no_state(value):
                of_label.setdefault(tuple(labels), set()).add(state_of(value))
                of_image.setdefault(image, set()).add(state_of(value))
        if all(any(len(states) > 1 for states in said.values()) for said in (of_label, of_image)):
            raise DataError(
                f"{origin}: images have several rows, and column {name!r} holds 1 and 0: it may say whether an image "
                "has the label of the row. Write one row for each image and a column for each label (pandas: "
                f"table.pivot(index=IMAGES, columns=LABELS, values={name!r}).reset_index()), or take the column out"
            )


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


def declared_names(labels: "TableLabels", features: Mapping, given: Sequence[str] | None) -> list[str] | None:
    """The label set of a table: that of its columns, or of the classes that its label column declares.

    Args:
        labels: of the table.
        features: what `datasets` knows of the types of its columns.
        given: the label set, if it is given.
    """
    return labels.names or declared_labels(features.get(labels.columns.get("labels", "")), given)
