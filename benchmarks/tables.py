"""How results become text: tables in Markdown, and pages that keep each between a pair of comments with its name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

NOT_RUN = "not run"


def fill_page(page: Path, tables: Mapping[str, Sequence[str] | str]):
    """Replaces the tables of a page and the figures in its sentences, and prints them.

    A page that does not exist becomes one of these alone.

    Args:
        page: the Markdown file.
        tables: the lines of each table, or a figure as text, by the name that its comments
            `<!-- NAME --> … <!-- /NAME -->` have.

    Raises:
        ValueError: if the page has no place for a table, or more than one; it is left as it was then.
    """
    if not page.exists():
        page.write_text("\n".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in tables), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    for name, rows in tables.items():
        content = rows if isinstance(rows, str) else "\n".join(["", *rows, ""])
        block, place = (f"<!-- {name} -->{inside}<!-- /{name} -->" for inside in (content, ".*?"))
        text, count = re.subn(place, lambda _, b=block: b, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{page}: has {count} places <!-- {name} --> … <!-- /{name} -->; it must have one")
        print(f"\n{name}\n{content.strip()}")
    page.write_text(text, encoding="utf-8")


def header(*titles: str) -> list[str]:
    """The two lines above a table's rows."""
    return [row(*titles), row(*["---"] * len(titles))]


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def mean_and_error(numbers: Sequence[float], sign: str = "") -> str:
    """Mean and its standard error."""
    return f"{np.mean(numbers):{sign}.2f} ± {np.std(numbers, ddof=1) / len(numbers) ** 0.5:.2f}"


def over_seeds(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard error over seeds; of a single one its value."""
    if not len(values):
        return NOT_RUN
    return mean_and_error(values, sign) if len(values) > 1 else f"{values[0]:{sign}.2f}"


def holm(p_values: Mapping[str, float | None]) -> dict[str, str]:
    """Holm's step-down correction of the tests that were made, as text."""
    made = sorted((p, name) for name, p in p_values.items() if p is not None)
    corrected, highest = dict.fromkeys(p_values, NOT_RUN), 0.0
    for place, (p, name) in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - place) * p))
        corrected[name] = f"{highest:.3f}" if highest >= 0.001 else "< 0.001"
    return corrected
