"""Why a label got its score, as half a sentence. The Space gets a copy of this file: it imports no other."""

import math
from collections.abc import Sequence

LITTLE, MUCH = 0.1, 0.4  # shares of all evidence, for and against
SURE = 1e-7  # a threshold nearer to 0 or 1 counts as one there


def why_in_words(own: float, others: Sequence[tuple[str, float]], threshold: float = 0.5) -> str:
    """Where the evidence for a label came from, such as "mostly from the picture itself; sky and sea added a little".

    Args:
        own: the part of the label's logit that came of no other label.
        others: name and part of each other label.
        threshold: probability from which the label is predicted; evidence for it is what lies above its logit.
    """
    threshold = min(max(threshold, SURE), 1 - SURE)
    own -= math.log(threshold / (1 - threshold))
    total = sum(part for _, part in others)
    share = abs(total) / ((abs(own) + abs(total)) or 1)
    names = _strongest(others, total > 0)
    if share < LITTLE:
        against = "" if own > 0 else ", which speaks against it"
        if sum(abs(part) for _, part in others) > abs(own):
            return f"from the picture itself{against}; what other labels added and took away cancels out"
        return f"almost only from the picture itself{against}"
    if own > 0 and total > 0:
        if share < MUCH:
            return f"mostly from the picture itself; {names} added a little"
        if share < 1 - MUCH:
            return f"half from the picture itself, half through other labels, above all {names}"
        return f"mostly through other labels, above all {names}"
    if own > 0:
        taken = "all" if own + total < 0 else "a little" if share < MUCH else "much"
        return f"from the picture itself; {names} took {taken} of it away"
    if total > 0 and own + total < 0:
        return f"the picture itself speaks against it; {names} spoke for it, but not enough"
    if total > 0:
        return f"through other labels, above all {names}; the picture itself speaks against it"
    return f"the picture itself speaks against it, and so do other labels, above all {names}"


def _strongest(others: Sequence[tuple[str, float]], positive: bool) -> str:
    """The one or two labels that did most in a direction."""
    chosen = sorted((pair for pair in others if (pair[1] > 0) == positive), key=lambda pair: -abs(pair[1]))[:2]
    names = [name for name, part in chosen if abs(part) >= abs(chosen[0][1]) / 3]
    return " and ".join(names) or "other labels"
