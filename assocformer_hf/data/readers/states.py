"""What a cell of a table says about a label: 1, 0, nothing that is known, or something else."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

# Yes and no, also as spreadsheets write them in some languages.
PRESENT = (
    "1", "true", "t", "yes", "y", "present", "positive", "wahr", "ja", "j", "vrai", "oui", "verdadero", "sí", "si",
    "vero", "sì", "verdadeiro", "sim", "waar", "prawda", "tak", "sant", "sand", "истина", "да",
)  # fmt: skip
ABSENT = (
    "0", "false", "f", "no", "n", "absent", "negative", "falsch", "nein", "faux", "non", "falso", "não", "onwaar",
    "nee", "fałsz", "nie", "falskt", "falsk", "nej", "nei", "ложь", "нет",
)  # fmt: skip
STATES = {"-1": -1} | dict.fromkeys(PRESENT, 1) | dict.fromkeys(ABSENT, 0)
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
        return STATES.get(re.sub(r"(?<=\d)[.,]0+$", "", value.strip().lower()))
    return int(value) if isinstance(value, (bool, int, float)) and value in (1, 0, -1) else None


def holds_states(values: Sequence) -> bool:
    """Whether most of a column's filled cells are 1, 0 or -1."""
    return share_of_states(values) > 0.5


def share_of_states(values: Sequence) -> float:
    """The share of a column's filled cells that are 1, 0 or -1, or yes and no in words; 0 where none is filled.

    Single letters may be anything, such as a direction: they count only where all cells are states.
    """
    try:
        counts = Counter(values)
    except TypeError:  # lists are no states
        return 0.0
    filled = {value: count for value, count in counts.items() if not is_no_state(value)}
    states = {value: count for value, count in filled.items() if state_of(value) is not None}
    if len(states) < len(filled):
        states = {value: count for value, count in states.items() if not re.fullmatch(r"\s*[^\W\d]\s*", str(value))}
    return sum(states.values()) / sum(filled.values()) if filled else 0.0


def plain(value: Any) -> Any:
    """A value or list without types of numpy, and a tuple or set as a list."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple, set, frozenset)) else value
