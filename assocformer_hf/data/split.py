"""Splitting a multi-label dataset so that every label keeps its share."""

from collections.abc import Sequence

import numpy as np

from assocformer_hf.data.schema import DataError

ATTEMPTS = 5
MAX_MOVES = 1000
FEW = 4


def iterative_stratification(
    labels: Sequence[Sequence[int]], num_labels: int, share: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Divides examples in two so that the second part has about the same share of each label's positives.

    Label after label, the one with the fewest positives left first, each positive example goes to the part that lacks
    the label most. Single examples then move where that brings shares closer to their target. Unknown labels are no
    positives and count nowhere.

    Args:
        labels: for each example the indices of its labels.
        num_labels: number of labels C.
        share: of the examples that go to the second part, in (0, 1).
        seed: of the order of the examples, which breaks ties; the same division comes from the same seed.

    Returns:
        The indices of the examples of the two parts, ascending.

    Raises:
        DataError: if the share is not in (0, 1), or one of the parts would be empty.

    Source: Sechidis, Tsoumakas & Vlahavas, "On the stratification of multi-label data", 2011.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of the validation split must be above 0 and below 1; got {share}")
    count = len(labels)
    held_out = round(share * count)
    if not 0 < held_out < count:
        raise DataError(f"{count} images are too few to hold out a share of {share:g} of them for validation")
    generator = np.random.default_rng(seed)
    unique = [np.unique(np.asarray(row, dtype=np.int64)) for row in labels]
    best, least = None, np.inf
    for _ in range(ATTEMPTS):
        order = generator.permutation(count)
        rows = [unique[i] for i in order]
        part = _divide(rows, num_labels, np.array([count - held_out, held_out]))
        error = _refine(part, rows, num_labels, share)
        if error < least:
            best, least = tuple(np.sort(order[part == side]).tolist() for side in (0, 1)), error
        if not error:
            break
    return best


def _divide(rows: list[np.ndarray], num_labels: int, sizes: np.ndarray) -> np.ndarray:
    """The greedy division: 0 or 1 for each example."""
    examples_of = [[] for _ in range(num_labels)]
    for example, row in enumerate(rows):
        for label in row:
            examples_of[label].append(example)
    left = np.array([len(examples) for examples in examples_of], dtype=np.int64)
    wanted = sizes[:, None] / len(rows) * left
    room = sizes.astype(np.float64)
    part = np.full(len(rows), -1, dtype=np.int8)

    def assign(example: int, to: int):
        part[example] = to
        room[to] -= 1
        wanted[to, rows[example]] -= 1
        left[rows[example]] -= 1

    while (waiting := left > 0).any():
        label = int(np.where(waiting, left, len(rows) + 1).argmin())
        for example in examples_of[label]:
            if part[example] < 0:
                lack = wanted[:, label]
                assign(example, int((room if lack[0] == lack[1] else lack).argmax()))
    for example in np.flatnonzero(part < 0):
        assign(int(example), int(room.argmax()))
    return part


def _refine(part: np.ndarray, rows: list[np.ndarray], num_labels: int, share: float) -> float:
    """Moves single examples to the other part as long as the squared relative errors of the shares shrink.

    The greedy division overshoots labels that go along with many rarer ones, by more than a tenth in small datasets.
    The size of the parts counts as one more label, which every example has.

    Returns:
        The sum of the squared errors that are left.
    """
    flat = np.concatenate([np.append(row, num_labels) for row in rows])
    starts = np.cumsum([0, *(len(row) + 1 for row in rows[:-1])])
    target = share * np.bincount(flat, minlength=num_labels + 1)
    held_out = np.repeat(part, np.diff([*starts, len(flat)])) == 1
    error = np.bincount(flat[held_out], minlength=len(target)) - target
    weight = 1 / np.maximum(target, FEW) ** 2

    def cost(error: np.ndarray) -> np.ndarray:
        # Below a half, the next whole number would be no nearer to the target.
        return weight * np.maximum(np.abs(error) - 0.5, 0) ** 2

    for _ in range(MAX_MOVES):
        now = cost(error)
        joins, leaves = (np.add.reduceat((cost(error + step) - now)[flat], starts) for step in (1, -1))
        change = np.where(part == 0, joins, leaves)
        best = int(change.argmin())
        if change[best] > -1e-12:
            break
        error[[*rows[best], num_labels]] += 1 - 2 * part[best]
        part[best] = 1 - part[best]
    return float(cost(error).sum())
