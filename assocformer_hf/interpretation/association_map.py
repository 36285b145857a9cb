"""Which labels the model relates: A as pictures and data, beside what the labels themselves say (Figure 4)."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.stats import rankdata

from assocformer_hf.csv_file import write_csv
from assocformer_hf.interpretation.label_names import plot_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_LABELS = 100  # of larger sets, those with the most pronounced associations
SHOWN_PAIRS = 30
ABOVE, BELOW = ("#b2182b", "solid"), ("#2166ac", "dashed")  # 1/2
FLAT = 0.02  # standard deviation of A over pairs of different labels below which a map would show nothing
DATA_FILE, PAIRS_FILE = "association.npz", "association_pairs.csv"
# For each matrix its colours, the value where they part, how far they reach from there (None: as far as the values),
# and the text beside the scale.
SCALES = {
    "association": ("RdBu_r", 0.5, None, "association A"),
    "cooccurrence": ("Blues", 0.5, 0.5, "share of the row's images with the column's label"),
    "difference": ("PuOr_r", 0.0, 1.0, "rank of A less rank of co-occurrence"),
}


class Correlation(NamedTuple):
    """A rank correlation and its confidence interval, in [-1, 1]; NaN where a matrix is constant.

    Attributes:
        rho: Spearman's.
        low: lower bound.
        high: upper bound.
    """

    rho: float
    low: float
    high: float


def conditional_cooccurrence(counts: np.ndarray, annotated: np.ndarray | None = None) -> np.ndarray:
    """P(j | c): of the images with label c, the row, and label j, the column, known, the share that have j too.

    Args:
        counts: images that have both labels, `(labels, labels)`, on the diagonal those that have one; as
            `assocformer_hf.data.checks.check.cooccurrence` counts them.
        annotated: images that have the label of the row and where that of the column is known, likewise from there.
            Default: nothing is unknown.

    Returns:
        `(labels, labels)`, in [0, 1]; NaN where there are no such images.
    """
    if annotated is None:
        annotated = np.repeat(np.diag(counts)[:, None], len(counts), axis=1)
    return np.divide(counts, annotated, out=np.full(counts.shape, np.nan), where=annotated > 0)


def cooccurrence_correlation(
    mean_association: np.ndarray,
    cooccurrence: np.ndarray,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Spearman's rank correlation of A and co-occurrence over the pairs of different labels.

    The interval is the percentile bootstrap over the labels, not the pairs: the pairs of a label are not independent.

    Args:
        mean_association: mean of A over a dataset, `(labels, labels)`.
        cooccurrence: `(labels, labels)`, such as that of [`conditional_cooccurrence`]; pairs with NaN are left out.
        resamples: how many times as many labels are drawn with replacement.
        confidence: share of the resamples that the interval covers.
        seed: of the drawing.

    Raises:
        ValueError: if the matrices do not have the same square shape of at least three labels.

    Source: Snijders & Borgatti 1999 (the bootstrap of a network's vertices).
    """
    shape = mean_association.shape
    if shape != cooccurrence.shape or len(shape) != 2 or shape[0] != shape[1] or shape[0] < 3:
        raise ValueError(f"expected two (labels, labels) of at least 3 labels, got {shape} and {cooccurrence.shape}")

    pairs = ~np.eye(shape[0], dtype=bool) & ~np.isnan(cooccurrence)
    ranked = [_ranks(matrix, pairs) for matrix in (mean_association, cooccurrence)]
    labels = np.arange(len(pairs))
    rho = _weighted_spearman(ranked, pairs, np.ones(len(labels)))
    if np.isnan(rho):
        return Correlation(np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(labels), (resamples, len(labels)))
    drawn = np.stack([np.bincount(row, minlength=len(labels)) for row in drawn])
    values = [_weighted_spearman(ranked, pairs, counts) for counts in drawn]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Correlation(float(rho), float(low), float(high))


def _ranks(matrix: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """The place of each pair's value among the different values, `(labels, labels)`, and the number of these."""
    levels, place = np.unique(matrix[pairs], return_inverse=True)
    places = np.zeros(matrix.shape, dtype=np.intp)
    places[pairs] = place
    return places, len(levels)


def _weighted_spearman(ranked: Sequence[tuple[np.ndarray, int]], pairs: np.ndarray, counts: np.ndarray) -> float:
    """Spearman's correlation where each label counts so often, and a pair as often as its two labels together."""
    taken = np.flatnonzero(counts)
    counts = counts[taken].astype(float)
    weights = (np.outer(counts, counts) * pairs[taken].take(taken, axis=1)).ravel()
    one, other = (_centred_ranks(places[taken].take(taken, axis=1).ravel(), weights, n) for places, n in ranked)
    scale = np.sqrt(np.einsum("i,i,i", weights, one, one) * np.einsum("i,i,i", weights, other, other))
    return np.einsum("i,i,i", weights, one, other) / scale if scale else np.nan


def _centred_ranks(places: np.ndarray, weights: np.ndarray, levels: int) -> np.ndarray:
    """Of each pair twice the mean rank of the values equal to its own, less that of all."""
    held = np.bincount(places, weights, levels)
    upto = held.cumsum(dtype=np.int64)  # whole numbers are summed up far quicker
    total = upto[-1]
    return 2 * upto.take(places) - held.take(places) - total


def rank_difference(association: np.ndarray, cooccurrence: np.ndarray) -> np.ndarray:
    """How much further up a pair stands in A than in the co-occurrence, as a share of all pairs of different labels.

    A is centred on 1/2 and P(j | c) near 0, so their values cannot be subtracted; their ranks can.

    Returns:
        `(labels, labels)`, in [-1, 1]; NaN on the diagonal and where the co-occurrence is.
    """
    pairs = ~np.eye(len(association), dtype=bool) & ~np.isnan(cooccurrence)
    result = np.full(association.shape, np.nan)
    ranks = rankdata(association[pairs]) - rankdata(cooccurrence[pairs])
    result[pairs] = ranks / max(pairs.sum() - 1, 1)
    return result


def cluster_order(matrix: np.ndarray) -> np.ndarray:
    """An order of the labels in which those with similar rows stand together, `(labels,)`: hierarchical clustering."""
    if len(matrix) < 3:
        return np.arange(len(matrix))
    return leaves_list(linkage(np.nan_to_num(matrix), method="average", optimal_ordering=True))


def is_flat(association: np.ndarray) -> bool:
    """Whether A is nearly the same for all pairs of different labels, so that a picture of it would be of noise.

    Of two labels, whether that of their one pair is nearly 1/2.
    """
    return association_spread(association) < FLAT


def association_spread(association: np.ndarray) -> float:
    """Standard deviation of A over the pairs of different labels; of the one pair of two labels, how far from 1/2."""
    if len(association) < 3:
        return abs(float(association[0, -1]) - 0.5) if len(association) == 2 else 0.0
    return float(association[~np.eye(len(association), dtype=bool)].std())


def association_summary(association: np.ndarray, label_names: Sequence[str]) -> str:
    """What a mean A shows, in a sentence or two.

    Args:
        association: mean of A over a dataset, `(labels, labels)`.
        label_names: names of the labels, in the order of the rows.
    """
    if len(label_names) < 2:
        return "One label has no pair to be associated with."
    if len(label_names) == 2:
        return (
            f"A of the one pair of labels, {label_names[0]} and {label_names[1]}, is {association[0, 1]:.3f}: the "
            "share of their messages to each other that counts."
        )
    spread = association_spread(association)
    if spread < FLAT:
        return (
            f"A is flat: it varies by {spread:.3f} (standard deviation) over all pairs of labels, so it treats every "
            "pair alike, and a map would show noise."
        )
    i, j = strongest_pairs(association)[0]
    pairs = association[~np.eye(len(association), dtype=bool)]
    effect = "more" if association[i, j] > 0.5 else "less"
    return (
        f"Farthest from ½ is A of {label_names[i]} and {label_names[j]} ({association[i, j]:.2f}), which lets {effect} "
        "than half of their messages to each other count; "
        f"over all pairs A lies between {pairs.min():.2f} and {pairs.max():.2f} (mean {pairs.mean():.2f}, standard "
        f"deviation {pairs.std():.2f})."
    )


def map_figure(
    matrix: np.ndarray, label_names: Sequence[str], title: str = "", kind: str = "association", order=None
) -> "Figure":
    """A heat map with the label names on both axes.

    Args:
        matrix: `(labels, labels)`.
        label_names: names of the labels, in the order of the rows.
        title: text above the map.
        kind: `"association"`, `"cooccurrence"` or `"difference"`: how the values are coloured.
        order: the labels to show, in their order; default: see [`shown_order`].

    Returns:
        A matplotlib figure.
    """
    # The object interface leaves pyplot's global state, and the backend that the caller chose, alone.
    from assocformer_hf.interpretation.figure import names_figure

    order = shown_order(matrix) if order is None else order
    names = plot_names([label_names[i] for i in order])
    colours, centre, reach, meaning = SCALES[kind]
    if reach is None:
        reach = max(float(np.abs(matrix - centre).max()), 0.01)
    cell, size = (0.26, 9) if len(names) <= 40 else (0.125, 6.5)
    margin = 0.35 + max(map(len, names)) * size / 110
    side = max(margin + cell * len(names), 3.5)
    figure = names_figure(figsize=(side + 1.1, side + 0.4), layout="constrained")
    axes = figure.add_subplot()
    shown = matrix[np.ix_(order, order)]
    picture = axes.imshow(shown, cmap=colours, vmin=centre - reach, vmax=centre + reach)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=2, pad=2)
    axes.set_title(title + _part(order, label_names), fontsize=11, wrap=True, parse_math=False)
    figure.colorbar(picture, ax=axes, shrink=0.7, label=meaning)
    return figure


def plot_association_map(
    association: np.ndarray, label_names: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draws A as a heat map, similar labels together, over a sentence that says what it shows.

    Args:
        association: `(labels, labels)`, in (0, 1).
        label_names: names of the labels, in the order of the rows.
        path: file to write; its ending gives the format.
        title: text above the map.
    """
    figure = map_figure(association, label_names, title)
    columns = int(figure.get_figwidth() * 14)
    caption = "\n".join(wrap(association_summary(association, label_names), columns))
    figure.supxlabel(caption, fontsize=8, color="#52525b", parse_math=False)
    figure.savefig(path, dpi=200)


def graph_figure(
    association: np.ndarray, label_names: Sequence[str], title: str = "", pairs: int = SHOWN_PAIRS
) -> "Figure":
    """The pairs whose A is farthest from 1/2 as lines between labels on a circle.

    Args:
        association: `(labels, labels)`, in (0, 1), of at least two labels.
        label_names: names of the labels, in the order of the rows.
        title: text above the graph.
        pairs: how many are drawn at most.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    from assocformer_hf.interpretation.figure import names_figure

    strongest = strongest_pairs(association)[:pairs]
    taking_part = {label for pair in strongest for label in pair}
    order = [i for i in cluster_order(association).tolist() if i in taking_part]
    angles = 2 * np.pi * np.arange(len(order)) / len(order)
    places = dict(zip(order, np.stack([np.cos(angles), np.sin(angles)], axis=1), strict=True))
    size, side = (10, 7) if len(order) <= 40 else (8, 9)
    figure = names_figure(figsize=(side, side + 0.8), layout="constrained")
    axes = figure.add_subplot()
    reach = abs(association[strongest[0]] - 0.5) or 1
    for i, j in reversed(strongest):
        strength = (association[i, j] - 0.5) / reach
        inward = 0.3 * (places[i] + places[j]) / 2
        curve = Curve([places[i], inward, places[j]], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
        colour, dashes = ABOVE if strength > 0 else BELOW
        axes.add_patch(PathPatch(curve, fc="none", ec=colour, ls=dashes, lw=0.3 + 2.2 * strength**2, alpha=0.7))
    names = dict(zip(order, plot_names([label_names[i] for i in order]), strict=True))
    for angle, (i, (x, y)) in zip(angles, places.items(), strict=True):
        axes.plot(x, y, "o", color="#333", ms=4)
        left = x < -1e-9
        axes.text(
            1.04 * x, 1.04 * y, names[i], fontsize=size, rotation_mode="anchor", va="center",
            ha="right" if left else "left", rotation=np.degrees(angle) - 180 * left,
        )  # fmt: skip
    widest = max(map(len, names.values())) * 0.6 * size / 72  # inches
    limit = 1.05 / (1 - min(2 * widest / side, 0.8))
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.axis("off")
    heading = f"{title} (the {len(strongest)} pairs of labels whose A is farthest from ½)".strip()
    axes.set_title(heading, fontsize=11, parse_math=False)
    meanings = ("A above ½: more than half of their messages counts", "A below ½: less than half")
    keys = [
        Line2D([], [], color=colour, ls=dashes, label=text)
        for (colour, dashes), text in zip((ABOVE, BELOW), meanings, strict=True)
    ]
    figure.legend(handles=keys, loc="outside lower center", fontsize=9, frameon=False)
    return figure


def strongest_pairs(association: np.ndarray) -> list[tuple[int, int]]:
    """All pairs of different labels `(i, j)`, i < j, those farthest from 1/2 first."""
    first, second = np.triu_indices(len(association), 1)
    order = np.argsort(-np.abs(association[first, second] - 0.5), kind="stable")
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def shown_order(association: np.ndarray) -> np.ndarray:
    """The labels that a picture shows, similar ones together: of more than 100, those with the most pronounced A."""
    if len(association) <= SHOWN_LABELS:
        return cluster_order(association)
    pronounced = np.abs(association - 0.5)
    np.fill_diagonal(pronounced, 0)
    chosen = np.sort(np.argsort(-pronounced.mean(1))[:SHOWN_LABELS])
    return chosen[cluster_order(association[np.ix_(chosen, chosen)])]


def association_figures(
    association: np.ndarray, label_names: Sequence[str], cooccurrence: np.ndarray | None = None
) -> "dict[str, Figure]":
    """All pictures of A by name; with the co-occurrence, that and the difference in the same order of the labels.

    Of a flat A, or of one label, there are none: see [`is_flat`].

    Args:
        association: mean of A over a dataset, or A of an image, `(labels, labels)`.
        label_names: names of the labels, in the order of the rows.
        cooccurrence: see [`conditional_cooccurrence`].
    """
    if is_flat(association):
        return {}
    order = shown_order(association)
    figures = {"association_map": map_figure(association, label_names, "Mean association A", order=order)}
    if cooccurrence is not None:
        difference = rank_difference(association, cooccurrence)
        titles = {
            "cooccurrence": "Co-occurrence in the training labels",
            "difference": "Association less co-occurrence",
        }
        for (kind, title), matrix in zip(titles.items(), (cooccurrence, difference), strict=True):
            figures[f"{kind}_map"] = map_figure(matrix, label_names, title, kind, order)
    return figures | {"association_graph": graph_figure(association, label_names, "Strongest associations")}


def save_association_data(
    folder: str | Path, association: np.ndarray, label_names: Sequence[str], cooccurrence: np.ndarray | None = None
) -> None:
    """Writes `association.npz`, the matrices, and `association_pairs.csv`, a row for each ordered pair of labels.

    Args:
        folder: exists.
        association: see [`association_figures`].
        label_names: likewise.
        cooccurrence: likewise.
    """
    names = list(label_names)
    matrices: dict[str, Any] = {"association": association}
    if cooccurrence is not None:
        matrices |= {"cooccurrence": cooccurrence, "rank_difference": rank_difference(association, cooccurrence)}
    np.savez_compressed(Path(folder) / DATA_FILE, label_names=names, **matrices)
    rows = (
        {"label": names[c], "other": names[other]} | {what: float(one[c, other]) for what, one in matrices.items()}
        for i, j in strongest_pairs(association)
        for c, other in ((i, j), (j, i))
    )
    write_csv(Path(folder) / PAIRS_FILE, rows, ["label", "other", *matrices])


def _part(order: np.ndarray, names: Sequence[str]) -> str:
    return f" ({len(order)} of {len(names)} labels)" if len(order) < len(names) else ""
