"""Splitting a multi-label dataset so that every label keeps its share."""

import heapq
from collections.abc import Sequence

import numpy as np

from assocformer_hf.data.schema import DataError

ATTEMPTS = 5
MAX_MOVES = 1000
FEW = 4
SIZE_TOLERANCE = 0.03  # by which the second part may be larger or smaller for the sake of the labels
GOOD = 1e-6  # squared relative errors that no further attempt is worth


def iterative_stratification(
    labels: Sequence[Sequence[int]], num_labels: int, share: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Divides examples in two so that the second part has about the same share of each label's positives.

    Label after label, the one with the fewest positives left first, each positive example goes to the part that lacks
    the label most. Single examples then move where that brings shares closer to their target. Unknown labels are no
    positives and count nowhere. The second part is at most 3%, or one example, larger or smaller than its share, and
    no part is empty.

    Args:
        labels: for each example the indices of its labels.
        num_labels: number of labels C.
        share: of the examples that go to the second part, in (0, 1).
        seed: of the order of the examples, which breaks ties; the same division comes from the same seed.

    Returns:
        The indices of the examples of the two parts, ascending.

    Raises:
        DataError: if the share is not in (0, 1), the seed is negative, or one of the parts would be empty.

    Source: Sechidis, Tsoumakas & Vlahavas, "On the stratification of multi-label data", 2011.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of the validation split must be above 0 and below 1; got {share}")
    if seed < 0:
        raise DataError(f"the seed of the split must be at least 0; got {seed}")
    count = len(labels)
    held_out = round(share * count)
    if not 0 < held_out < count:
        raise DataError(f"{count} images are too few to hold out a share of {share:g} of them for validation")
    slack = max(1, int(SIZE_TOLERANCE * held_out))
    limits = (count - max(1, held_out - slack), min(count - 1, held_out + slack))
    # Many images have the same labels: what is looked up for a set of labels is looked up once.
    known: dict[tuple[int, ...], int] = {}
    set_of = np.array([known.setdefault(tuple(sorted(set(row))), len(known)) for row in labels])
    label_sets = list(known)
    for largest in ((count, count), limits):  # limits are in the way where they are not needed
        generator = np.random.default_rng(seed)
        best, least = None, np.inf
        for _ in range(ATTEMPTS):
            order = generator.permutation(count)
            sets = set_of[order]
            part = _divide(sets.tolist(), label_sets, num_labels, (count - held_out, held_out), largest)
            error = _refine(part, sets, label_sets, num_labels, share, largest)
            if error < least:
                best, least = tuple(np.sort(order[part == side]).tolist() for side in (0, 1)), error
            if error < GOOD:
                break
        if all(len(part) <= most for part, most in zip(best, limits, strict=True)):
            break
    return best


def _divide(
    sets: list[int],
    label_sets: list[tuple[int, ...]],
    num_labels: int,
    sizes: tuple[int, int],
    largest: tuple[int, int],
) -> np.ndarray:
    """The greedy division: 0 or 1 for each example, of which `sets` holds the number of its label set.

    A label that occurs once goes to the part with the larger share, as long as that may become larger.
    """
    examples_of: list[list[int]] = [[] for _ in range(num_labels)]
    for example, number in enumerate(sets):
        for label in label_sets[number]:
            examples_of[label].append(example)
    left = np.array([len(examples) for examples in examples_of], dtype=np.int64)
    wanted = [(size / len(sets) * left).tolist() for size in sizes]
    room = [float(size) for size in sizes]
    full = [size - most for size, most in zip(sizes, largest, strict=True)]
    part = [-1] * len(sets)

    def assign(example: int, to: int):
        to = 1 - to if room[to] <= full[to] else to
        part[example] = to
        room[to] -= 1
        for label in label_sets[sets[example]]:
            wanted[to][label] -= 1

    while (waiting := left > 0).any():
        label = int(np.where(waiting, left, len(sets) + 1).argmin())
        turn = [example for example in examples_of[label] if part[example] < 0]
        for example in turn:
            lack = wanted[1][label] - wanted[0][label]
            assign(example, int((lack or room[1] - room[0]) > 0))
        assigned = [label for example in turn for label in label_sets[sets[example]]]
        left -= np.bincount(assigned, minlength=num_labels)
    for example, to in enumerate(part):
        if to < 0:
            assign(example, int(room[1] > room[0]))
    return np.array(part, dtype=np.int8)


def _refine(
    part: np.ndarray,
    sets: np.ndarray,
    label_sets: list[tuple[int, ...]],
    num_labels: int,
    share: float,
    largest: tuple[int, int],
) -> float:
    """Moves single examples to the other part as long as the squared relative errors of the shares shrink.

    The greedy division overshoots labels that go along with many rarer ones, by more than a tenth in small datasets.
    The size of the parts counts as one more label, which every example has. Moves that make a part larger than it may
    be are none: together, labels that occur once would outweigh the size.

    Returns:
        The sum of the squared errors that are left.
    """
    flat = np.concatenate([[*label_set, num_labels] for label_set in label_sets]).astype(np.int64)
    starts = np.cumsum([0, *(len(label_set) + 1 for label_set in label_sets[:-1])])
    lengths = np.diff([*starts, len(flat)])
    # How many examples of each label set are in each part, and which: the first of them moves first.
    held = np.stack([np.bincount(sets[part == side], minlength=len(label_sets)) for side in (0, 1)])
    by_set = np.argsort(sets, kind="stable")
    groups = np.split(by_set, held.sum(0).cumsum()[:-1])
    examples = [[group[part[group] == side].tolist() for group in groups] for side in (0, 1)]
    total, held_out = (np.bincount(flat, np.repeat(n, lengths), num_labels + 1) for n in (held.sum(0), held[1]))
    target = share * total
    error = held_out - target
    weight = 1 / np.maximum(target, FEW) ** 2

    def cost(error: np.ndarray) -> np.ndarray:
        # Below a half, the next whole number would be no nearer to the target.
        return weight * np.maximum(np.abs(error) - 0.5, 0) ** 2

    for _ in range(MAX_MOVES):
        now = cost(error)
        change = np.stack([np.add.reduceat((cost(error + step) - now)[flat], starts) for step in (1, -1)])
        change[held == 0] = np.inf
        change[held.sum(1)[::-1] >= largest[::-1]] = np.inf
        if change.min() > -1e-12:
            break
        side, number = min(
            zip(*np.nonzero(change == change.min()), strict=True), key=lambda at: examples[at[0]][at[1]][0]
        )
        moved = heapq.heappop(examples[side][number])
        heapq.heappush(examples[1 - side][number], moved)
        held[side, number] -= 1
        held[1 - side, number] += 1
        part[moved] = 1 - side
        error[[*label_sets[number], num_labels]] += 1 - 2 * side
    return float(cost(error).sum())
