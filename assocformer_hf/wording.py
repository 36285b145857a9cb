"""How messages name several things, numbers of things, and errors."""

import os
from collections.abc import Sequence
from pathlib import Path


def some(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: `1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def first_line(error: Exception) -> str:
    """What an error says first; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(error: Exception) -> str:
    """All that an error says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(path: str | Path) -> str:
    """A path as text that can be printed and written, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")
