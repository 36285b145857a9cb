"""Values that options can have; imports nothing heavy, so that the command shows its help at once."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import inf
from numbers import Integral
from types import MappingProxyType
from typing import Any


class OptionError(ValueError):
    """An option with a value that it cannot have."""


def require(
    values: Mapping[str, Any],
    at_least: Mapping[str, float] = MappingProxyType({}),
    above: Mapping[str, float] = MappingProxyType({}),
    between: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    one_of: Mapping[str, Sequence[str]] = MappingProxyType({}),
    whole: Iterable[str] = (),
) -> None:
    """Refuses values that options cannot have; None stands for a value to be found.

    Args:
        values: of the options by their names, such as `vars` of a dataclass.
        at_least: the least value of some.
        above: what others must be above.
        between: the ends of the range of others.
        one_of: what others have to choose from.
        whole: those that must be whole numbers.

    Raises:
        OptionError: naming the option, its value and what it can be.
    """
    rules = [
        *((name, lambda v: isinstance(v, Integral), "a whole number") for name in whole),
        *((name, lambda v, low=low: low <= v < inf, f"at least {low}") for name, low in at_least.items()),
        *((name, lambda v, low=low: low < v < inf, f"above {low}") for name, low in above.items()),
        *(
            (name, lambda v, ends=ends: ends[0] <= v <= ends[1], "from {} to {}".format(*ends))
            for name, ends in between.items()
        ),
        *((name, lambda v, names=names: v in names, _listed(names)) for name, names in one_of.items()),
    ]
    for name, holds, expected in rules:
        value = values[name]
        try:
            fits = value is None or holds(value)
        except TypeError:  # such as text in the place of a number
            fits = False
        if not fits:
            raise OptionError(f"{name} must be {expected}; got {value!r}")


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]])


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that a wrong one was likely meant to be, as the end of a message."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
