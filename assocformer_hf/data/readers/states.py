"""What a cell of a table says about a label: 1, 0, nothing that is known, or something else."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

STATES = {"1": 1, "0": 0, "-1": -1, "true": 1, "false": 0}
NO_STATES = ("na", "nan", "null", "none")  # how R, pandas and others write a state that is not known


class NotAnnotated(tuple):
    """A cell whose class is -1, which says nothing: each of these names may be a label or not."""


def is_empty(value) -> bool:
    """Whether a cell says nothing: None, NaN, empty text or a class that nobody annotated."""
    if isinstance(value, str):
        return not value.strip()
    return (
        value is None or isinstance(value, NotAnnotated) or (isinstance(value, (float, np.floating)) and value != value)
    )


def is_no_state(value) -> bool:
    """Whether a cell says nothing about a label, be it in words such as NA."""
    return is_empty(value) or (isinstance(value, str) and value.strip().lower() in NO_STATES)


def state_of(value) -> int | None:
    """1, 0 or -1 for what a cell says about a label; None for anything else."""
    if is_no_state(value):
        return -1
    value = plain(value)
    if isinstance(value, str):
        return STATES.get(value.strip().lower().removesuffix(".0"))
    return int(value) if isinstance(value, (bool, int, float)) and value in (1, 0, -1) else None


def holds_states(values: Sequence) -> bool:
    """Whether most of a column's filled cells are 1, 0 or -1."""
    return share_of_states(values) > 0.5


def share_of_states(values: Sequence) -> float:
    """The share of a column's filled cells that are 1, 0 or -1; 0 where none is filled."""
    try:
        counts = Counter(values)
    except TypeError:  # lists are no states
        return 0.0
    filled = {value: count for value, count in counts.items() if not is_no_state(value)}
    states = sum(count for value, count in filled.items() if state_of(value) is not None)
    return states / sum(filled.values()) if filled else 0.0


def plain(value):
    """A value or list without types of numpy, and a tuple or set as a list."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple, set, frozenset)) else value
