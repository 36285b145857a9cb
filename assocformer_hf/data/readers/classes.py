"""Classes that features of `datasets` declare, and what cells with their indices say."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from assocformer_hf.data.readers.label_cells import length_of_states, quoted_cell
from assocformer_hf.data.readers.states import NotAnnotated, state_of
from assocformer_hf.data.schema import DataError

LISTS = (datasets.List, datasets.LargeList)


def innermost(kind: Any) -> Any:
    """What lists of a feature of `datasets` hold; the feature itself where it is none."""
    while isinstance(kind, LISTS):
        kind = kind.feature
    return kind


def class_names(kind) -> list[str] | None:
    """The names of a ClassLabel of `datasets`, alone or in lists."""
    kind = innermost(kind)
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else None


def class_words(kind) -> list[str] | None:
    """The names of a ClassLabel as [`class_names`] has them; where two say yes and no, 1 and 0."""
    names = class_names(kind)
    return list(map(str, _states(names or ()))) or names


def declared_labels(kind, given: Sequence[str] | None) -> list[str] | None:
    """The names of a ClassLabel as [`class_names`] has them; None where they say yes and no of the labels given."""
    names = class_names(kind)
    return None if names and given and _states(names) and not set(names) & set(given) else names


def _states(names: Sequence[str]) -> list[int]:
    """What two classes say by their names of a label, 1 and 0 in their order; empty for other classes."""
    states = [state_of(name) for name in names]
    return states if sorted(states, key=str) == [0, 1] else []


def to_names(values: list, names: list[str], origin: str) -> list[list[str] | list[int] | NotAnnotated]:
    """Class indices as names; -1 is a class that is not known, and beside others none.

    Lists that say by two classes, such as no and yes, whether each of several labels is there, are of 0 and 1.
    """
    rows = [value if isinstance(value, list) else [] if value is None else [value] for value in values]
    for i, row in enumerate(rows):
        for label in row:
            if isinstance(label, int) and not -1 <= label < len(names):
                raise DataError(f"{origin}: row {i + 1}: label {label}, but there are {len(names)}")
    states = _states(names)
    if states and length_of_states(rows, (0, 1, -1)):
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
                rows = [
                    row if isinstance(row, NotAnnotated) else quoted_cell(str(row[0])) if row else None for row in rows
                ]
            result[name] = rows
    return result
