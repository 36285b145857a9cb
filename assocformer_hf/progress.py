"""How far a long loop is: a bar in a terminal, a plain line now and then in a log."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

SECONDS = 30.0  # between two lines of a log; a shorter loop writes none
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} so far, {remaining} to go"


class _Lines:
    """Standard error as tqdm's file: what it draws is a line each, without what moves a terminal's cursor."""

    def write(self, text: str):
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self):
        sys.stderr.flush()


def progress_bar(iterable: Iterable | None = None, shown: bool = True, **options) -> tqdm:
    """tqdm for a terminal, where the bar goes at the end, and for a log, where it would be one endless line.

    Args:
        iterable: the loop, or None where `update` is called.
        shown: whether this process shows it.
        options: of tqdm, such as `total`, `desc` and `unit`.
    """
    if not shown:
        options["disable"] = True
    elif not sys.stderr.isatty():
        options |= {"file": _Lines(), "bar_format": LINE, "mininterval": SECONDS, "delay": SECONDS, "miniters": 1}
    return tqdm(iterable, leave=False, **options)
