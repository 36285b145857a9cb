"""CSV files that a spreadsheet opens as what they are."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: str | Path, rows: Iterable[Mapping], columns: Sequence[str] | None = None) -> None:
    """Writes a header and a line for each row, UTF-8.

    Numbers have six digits, lists are joined with semicolons, None is empty. A text that a spreadsheet would run as a
    formula, such as the label `=1+1`, gets an apostrophe in front (CWE-1236).

    Args:
        path: file to write.
        rows: by the names of the columns.
        columns: their order; default: that of the first row.
    """
    rows = list(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or (list(rows[0]) if rows else []))
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)


def cell(value: Any) -> Any:
    """A value as it stands in the file, see [`write_csv`]."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        value = "; ".join(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
