"""Names of labels as plots show them: short, different from each other, and never read as a formula."""

from collections import Counter
from collections.abc import Sequence

LONGEST = 30  # characters


def plot_name(name: str, length: int = LONGEST) -> str:
    """A label's name as matplotlib shows it: on one line, cut at its end, and without a formula between `$`."""
    return plot_names([name], length)[0]


def plot_names(names: Sequence[str], length: int = LONGEST) -> list[str]:
    """The names of labels as matplotlib shows them, see [`plot_name`]; different names stay different.

    Names that would be alike once their ends are cut off keep them, and lose their middles; where that does not tell
    them apart, they are numbered.
    """
    whole = [" ".join(name.split()) or repr(name) for name in names]
    short = [_without_end(name, length) for name in whole]
    alike = {name for name, count in Counter(short).items() if count > 1}
    short = [_without_middle(name, length) if cut in alike else cut for name, cut in zip(whole, short, strict=True)]
    alike, seen = {name for name, count in Counter(short).items() if count > 1}, Counter()
    for i, name in enumerate(short):
        if name in alike:
            seen[name] += 1
            short[i] = f"{name} ({seen[name]})"
    return [name.replace("$", r"\$") for name in short]


def _without_end(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def _without_middle(name: str, length: int) -> str:
    head = length // 2
    return name if len(name) <= length else f"{name[:head].rstrip()}…{name[-(length - head - 1) :].lstrip()}"
